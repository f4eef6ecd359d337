//! What is found: two replies to one command that are not alike.

/// What two servers said to the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Of which step, from 0.
    pub at: usize,
    /// The step, as it is shown without its connection.
    pub command: String,
    /// Reply of the node.
    pub ours: String,
    /// Reply of redis-server.
    pub redis: String,
}

impl Difference {
    /// The command's name, in capitals.
    pub fn name(&self) -> String {
        self.command.split(' ').next().unwrap_or_default().to_ascii_uppercase()
    }

    /// The command's name and how each reply begins: one mistake shows in many sequences.
    pub fn kind(&self) -> String {
        let begin = |reply: &str| {
            let end = reply.find([' ', '"', '[', '(']).unwrap_or(reply.len());
            reply.get(..=end).unwrap_or(reply).to_owned()
        };
        format!("{}: ours {}, redis {}", self.name(), begin(&self.ours), begin(&self.redis))
    }
}
