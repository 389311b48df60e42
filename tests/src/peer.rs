//! A client of an MQTT broker that speaks 3.1.1 packet by packet, on the thread of whoever has it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use rumqttc_v4::{Connect, Packet, PubAck, Publish, QoS, Subscribe};

use crate::mosquitto::Mosquitto;
use crate::wait::PATIENCE;

/// A connection to the broker.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    read: BytesMut,
    /// Messages that weren't written yet.
    queued: BytesMut,
    next: u16,
    unacknowledged: usize,
}

impl Peer {
    /// Connects under a client id.
    pub fn open(broker: &Mosquitto, id: &str) -> Result<Self> {
        let address = broker.url();
        let address = address.strip_prefix("mqtt://").context("no address")?;
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut peer =
            Self { stream, read: BytesMut::new(), queued: BytesMut::new(), next: 1, unacknowledged: 0 };
        // One that only listens says nothing for long.
        let connect = Connect { keep_alive: 0, ..Connect::new(id) };
        peer.send(&Packet::Connect(connect))?;
        match peer.packet()? {
            Packet::ConnAck(_) => Ok(peer),
            other => bail!("{other:?} instead of an acknowledgement"),
        }
    }

    /// Sets for how long [`Self::packet`] waits; `None`: for ever.
    pub fn set_patience(&self, patience: Option<Duration>) -> Result<()> {
        Ok(self.stream.set_read_timeout(patience)?)
    }

    /// Sends one packet.
    pub fn send(&mut self, packet: &Packet) -> Result<()> {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        Ok(self.stream.write_all(&bytes)?)
    }

    /// The next packet that comes.
    pub fn packet(&mut self) -> Result<Packet> {
        loop {
            match Packet::read(&mut self.read, 1 << 20) {
                Ok(packet) => return Ok(packet),
                Err(rumqttc_v4::mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => bail!("{error:?}"),
            }
            let mut chunk = [0; 64 << 10];
            let read = self.stream.read(&mut chunk)?;
            ensure!(read > 0, "the broker has hung up");
            self.read.extend_from_slice(&chunk[..read]);
        }
    }

    /// Subscribes, and waits until the broker knows.
    pub fn subscribe(&mut self, filter: &str, qos: QoS) -> Result<()> {
        let mut subscribe = Subscribe::new(filter, qos);
        subscribe.pkid = 1;
        self.send(&Packet::Subscribe(subscribe))?;
        match self.packet()? {
            Packet::SubAck(_) => Ok(()),
            other => bail!("{other:?} instead of an acknowledgement"),
        }
    }

    /// The next message of a subscription; acknowledges it where it wants that.
    pub fn message(&mut self) -> Result<Publish> {
        match self.packet()? {
            Packet::Publish(message) => {
                if message.qos == QoS::AtLeastOnce {
                    self.send(&Packet::PubAck(PubAck::new(message.pkid)))?;
                }
                Ok(message)
            }
            other => bail!("{other:?} instead of a message"),
        }
    }

    /// Puts a message of quality of service 1 behind those that [`Self::flush`] writes.
    pub fn queue(&mut self, topic: &str, payload: impl Into<Bytes>) -> Result<()> {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload.into());
        publish.pkid = self.next;
        self.next = if self.next == u16::MAX { 1 } else { self.next + 1 };
        publish.write(&mut self.queued).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        self.unacknowledged += 1;
        Ok(())
    }

    /// Writes what is queued, and waits until the broker has all of it but so many.
    pub fn flush(&mut self, ahead: usize) -> Result<()> {
        self.stream.write_all(&self.queued)?;
        self.queued.clear();
        while self.unacknowledged > ahead {
            match self.packet()? {
                Packet::PubAck(_) => self.unacknowledged -= 1,
                other => bail!("{other:?} instead of an acknowledgement"),
            }
        }
        Ok(())
    }
}
