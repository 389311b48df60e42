//! Copies of one message: a broker may send one for each of the subscriptions that it matches. With MQTT 5, subscriptions that
//! overlap have numbers, and the copies of a message differ in them alone. The next message of the same contents begins
//! again with a number that was there.

use super::link::Message;

/// The last message that came by a subscription with a number, and the numbers of its copies.
#[derive(Debug, Default)]
pub(super) struct Copies {
    last: Option<Message>,
}

impl Copies {
    /// Returns true where a message is a copy of the one before.
    pub(super) fn is_one(&mut self, message: &Message) -> bool {
        if message.subscriptions.is_empty() {
            self.last = None;
            return false;
        }
        if let Some(last) = &mut self.last {
            let is_same = last.topic == message.topic && last.payload == message.payload;
            if is_same && !message.subscriptions.iter().any(|number| last.subscriptions.contains(number)) {
                last.subscriptions.extend(&message.subscriptions);
                return true;
            }
        }
        self.last = Some(message.clone());
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &str, subscriptions: &[usize]) -> Message {
        Message {
            topic: "a/b".into(),
            payload: payload.to_owned().into(),
            id: 1,
            dup: false,
            retain: false,
            subscriptions: subscriptions.to_vec(),
        }
    }

    #[test]
    fn copies_differ_in_the_numbers_of_their_subscriptions_alone() {
        let mut copies = Copies::default();
        for (payload, subscriptions, expected) in [
            ("1", &[1][..], false),
            ("1", &[2], true),
            ("1", &[3], true),
            // The sensor says the same again.
            ("1", &[1], false),
            ("1", &[2, 3], true),
            ("1", &[2, 3], false),
            ("2", &[1], false),
            // Without numbers nothing is known.
            ("2", &[], false),
            ("2", &[2], false),
        ] {
            assert_eq!(
                copies.is_one(&message(payload, subscriptions)),
                expected,
                "{payload} {subscriptions:?}"
            );
        }
    }
}
