//! Streams of a node without room, and the memory of their lines.

use std::sync::atomic::Ordering;

use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::*;
use crate::api::connections::Bounds;
use crate::api::tests::{BODIES, Fake, Served, serve_node};

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Peer(WebSocketStream<TcpStream>);

impl Peer {
    /// Opens a stream, whose first word says that nothing is taken.
    async fn new(served: &Served) -> Self {
        let connection = TcpStream::connect(served.listen).await.unwrap();
        let url = format!("ws://{}/v1/readings/stream", served.listen);
        let mut peer = Self(client_async(url, connection).await.unwrap().0);
        assert_eq!(peer.word().await.through, 0);
        peer
    }

    async fn send(&mut self, lines: &str) {
        use futures_util::SinkExt as _;
        self.0.send(Message::text(lines)).await.unwrap();
    }

    async fn word(&mut self) -> Word {
        let message = async {
            loop {
                if let Message::Text(text) = self.0.next().await.unwrap().unwrap() {
                    return serde_json::from_str(&text).unwrap();
                }
            }
        };
        tokio::time::timeout(PATIENCE, message).await.unwrap()
    }

    /// Closes, and waits until the server has, too.
    async fn close(mut self) {
        let close = async {
            self.0.close(None).await.unwrap();
            while let Some(Ok(_)) = self.0.next().await {}
        };
        tokio::time::timeout(PATIENCE, close).await.unwrap();
    }
}

fn line(value: u64) -> String {
    format!("{{\"point\":\"known\",\"value\":{value}}}\n")
}

/// The number of readings in each record.
fn taken(fake: &Fake) -> Vec<usize> {
    fake.pushes.lock().iter().map(|push| push.columns.len()).collect()
}

#[tokio::test]
async fn lines_that_wait_for_room_go_with_their_connection() {
    let fake = Arc::new(Fake::default());
    fake.is_full.store(true, Ordering::SeqCst);
    let served = serve_node(Arc::clone(&fake), Bounds::default(), BODIES).await;
    for _ in 0..3 {
        let mut peer = Peer::new(&served).await;
        peer.send(&line(1)).await;
        assert_eq!(peer.word().await.held_up.as_deref(), Some("it is full"));
        // A message behind those that wait.
        peer.send(&line(2)).await;
        peer.close().await;
    }
    let mut peer = Peer::new(&served).await;
    peer.send(&line(1)).await;
    assert!(peer.word().await.held_up.is_some());
    fake.is_full.store(false, Ordering::SeqCst);
    let word = peer.word().await;
    assert_eq!((word.through, word.taken), (1, 1));
    assert_eq!(taken(&fake), [1], "only what the last one has sent");
    peer.close().await;
}

#[tokio::test]
async fn lines_behind_which_a_peer_closes_are_taken() {
    let fake = Arc::new(Fake::default());
    let served = serve_node(Arc::clone(&fake), Bounds::default(), BODIES).await;
    let mut peer = Peer::new(&served).await;
    // Each with a point that isn't known: no two of their records are under way together.
    for number in 0..100 {
        peer.send(&format!("{{\"point\":\"new-{}\",\"value\":1}}\n", number % 2)).await;
    }
    peer.close().await;
    assert_eq!(taken(&fake).iter().sum::<usize>(), 100);
}

#[tokio::test]
async fn streams_wait_for_the_memory_of_their_messages() {
    let fake = Arc::new(Fake::default());
    fake.is_full.store(true, Ordering::SeqCst);
    // Enough for one of them.
    let served = Arc::new(serve_node(Arc::clone(&fake), Bounds::default(), 1 << 20).await);
    let lines = line(1).repeat((900 << 10) / line(1).len());
    let count = lines.lines().count();
    let peers: Vec<_> = (0..3)
        .map(|_| {
            let (served, lines) = (Arc::clone(&served), lines.clone());
            tokio::spawn(async move {
                let mut peer = Peer::new(&served).await;
                peer.send(&lines).await;
                while peer.word().await.through < count as u64 {}
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(taken(&fake), [] as [usize; 0]);
    fake.is_full.store(false, Ordering::SeqCst);
    for peer in peers {
        peer.await.unwrap();
    }
    assert_eq!(taken(&fake), [count; 3]);
}
