//! Which roles share a core: a value, chosen in the configuration, not code.
//!
//! The roles of a core stand in the order in which a burst passes through them, so that on a fused core one turn carries it all the
//! way: received, opened, stepped, logged, applied, sealed, sent, answered.

/// A role, and the agent that plays it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Receives from peers.
    Rx,
    /// Checks and decodes what peers sent.
    Open,
    /// Receives from clients.
    Take,
    /// Hosts the protocol cores.
    Replica,
    /// Writes the log.
    Log,
    /// Applies what is decided.
    Store,
    /// Encodes and tags what goes to peers.
    Seal,
    /// Sends to peers.
    Tx,
    /// Answers clients.
    Reply,
}

impl Role {
    /// The name of its agent.
    pub fn agent(self) -> &'static str {
        match self {
            Role::Rx => "rx",
            Role::Open => "open",
            Role::Take => "take",
            Role::Replica => "replica",
            Role::Log => "log",
            Role::Store => "store",
            Role::Seal => "seal",
            Role::Tx => "tx",
            Role::Reply => "reply",
        }
    }
}

/// The roles of each core.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    /// One list a core, none of them empty; each role stands once.
    pub cores: Vec<Vec<Role>>,
}

impl Placement {
    /// How a node with one shard uses `cores` cores. More than four change nothing as long as there is one shard.
    ///
    /// Splitting by role pays only where a role is dear: a hop to a sleeping core costs about 2.5 us, so one core is the default.
    pub fn of(cores: usize) -> Placement {
        use Role::*;
        let cores = match cores {
            0 | 1 => vec![vec![Rx, Open, Take, Replica, Log, Store, Seal, Tx, Reply]],
            2 => vec![vec![Rx, Open, Take, Seal, Tx, Reply], vec![Replica, Log, Store]],
            3 => vec![vec![Rx, Open, Take, Seal, Tx, Reply], vec![Replica, Store], vec![Log]],
            _ => vec![vec![Rx, Take, Tx, Reply], vec![Open, Seal], vec![Replica, Store], vec![Log]],
        };
        Placement { cores }
    }

    /// The core on which `role` stands.
    pub fn core_of(&self, role: Role) -> usize {
        self.place_of(role).0
    }

    /// The core on which `role` stands, and its place there.
    pub fn place_of(&self, role: Role) -> (usize, usize) {
        let place = |(core, roles): (usize, &Vec<Role>)| Some((core, roles.iter().position(|r| *r == role)?));
        self.cores.iter().enumerate().find_map(place).expect("each role stands somewhere")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_stands_once_whatever_the_number_of_cores() {
        for cores in 0..9 {
            let placement = Placement::of(cores);
            let all: Vec<Role> = placement.cores.concat();
            assert_eq!(all.len(), 9);
            assert!(all.iter().enumerate().all(|(i, role)| !all[..i].contains(role)));
            assert!(placement.cores.len() <= cores.max(1));
            assert!(placement.cores.iter().all(|roles| !roles.is_empty()));
            // Both name the same sockets.
            assert_eq!(placement.core_of(Role::Take), placement.core_of(Role::Reply));
        }
    }
}
