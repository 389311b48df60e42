//! The first packet of a client of MQTT, taken apart by the standard's text: no crate's reading of it is the measure.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::{Context as _, Result, bail, ensure};

use crate::wait::{PATIENCE, wait_for};

/// A listener that hears what clients say first, and never answers.
#[derive(Debug)]
pub struct Doorkeeper(TcpListener);

/// A CONNECT packet. What only MQTT 5 has is `None` where the packet lacks it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    /// 4 is MQTT 3.1.1.
    pub level: u8,
    /// The clean session, or clean start.
    pub is_clean: bool,
    pub keep_alive: u16,
    pub session_expiry: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub client_id: String,
}

impl Doorkeeper {
    pub fn open() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    pub fn url(&self) -> Result<String> {
        Ok(format!("mqtt://{}", self.0.local_addr()?))
    }

    /// Waits for the next client, hears it, and hangs up.
    pub fn next(&self) -> Result<Greeting> {
        let (stream, _) = wait_for("a client", || match self.0.accept() {
            Ok(client) => Ok(Some(client)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        })?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Greeting::read(stream)
    }
}

impl Greeting {
    fn read(mut stream: TcpStream) -> Result<Self> {
        let mut byte = || -> Result<u8> {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            Ok(byte[0])
        };
        ensure!(byte()? == 0x10, "it begins with another packet");
        let length = number(&mut byte)?;
        let mut rest = vec![0; length];
        stream.read_exact(&mut rest)?;
        let mut rest = Rest(&rest);
        ensure!(rest.text()? == "MQTT", "another protocol");
        let [level, flags] = rest.take()?;
        let mut greeting = Self { level, is_clean: flags & 2 != 0, ..Self::default() };
        greeting.keep_alive = u16::from_be_bytes(rest.take()?);
        if level == 5 {
            let length = number(&mut || Ok(u8::from_be_bytes(rest.take()?)))?;
            let (properties, behind) = rest.0.split_at_checked(length).context("it is cut off")?;
            greeting.read_properties(Rest(properties))?;
            rest = Rest(behind);
        }
        greeting.client_id = rest.text()?;
        Ok(greeting)
    }

    /// Reads the properties of section 3.1.2.11 that are numbers.
    fn read_properties(&mut self, mut rest: Rest<'_>) -> Result<()> {
        while !rest.0.is_empty() {
            match u8::from_be_bytes(rest.take()?) {
                0x11 => self.session_expiry = Some(u32::from_be_bytes(rest.take()?)),
                0x21 => self.receive_maximum = Some(u16::from_be_bytes(rest.take()?)),
                // The longest packet.
                0x27 => drop(rest.take::<4>()?),
                // The most topic aliases.
                0x22 => drop(rest.take::<2>()?),
                // Two questions.
                0x17 | 0x19 => drop(rest.take::<1>()?),
                other => bail!("the property {other:#x}"),
            }
        }
        Ok(())
    }
}

/// A number of 7 bits in each byte, the lowest first.
fn number(byte: &mut impl FnMut() -> Result<u8>) -> Result<usize> {
    let mut number = 0;
    for place in 0..4 {
        let next = byte()?;
        number |= usize::from(next & 0x7f) << (7 * place);
        if next & 0x80 == 0 {
            return Ok(number);
        }
    }
    bail!("a number of more than four bytes")
}

struct Rest<'b>(&'b [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().context("it is cut off")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn text(&mut self) -> Result<String> {
        let length = u16::from_be_bytes(self.take()?);
        let (text, rest) = self.0.split_at_checked(length.into()).context("it is cut off")?;
        self.0 = rest;
        Ok(String::from_utf8(text.to_vec())?)
    }
}
