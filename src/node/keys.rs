//! A node's private keys: the pair that it was made with, and the next, which it makes itself when an operator wants to change its keys.
//! The next one lies in a second file until it is in force; the first is then worth nothing any more, and makes room when another is made.

use super::{RunError, machine};
use crate::admin::KeyMaker;
use crate::base::NodeId;
use crate::config::Resolved;
use crate::crypto::{PublicKey, SecretKey, VerifyingKey};
use crate::io::{Entropy, SystemEntropy};
use crate::wire::roster::Roster;
use crossbeam::channel::{Receiver, Sender, bounded};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use zeroize::Zeroizing;

/// Keys that were made and that the links have not looked at: one is made at a time, and the newest counts.
const MADE_MAX: usize = 4;

/// The keys that a node holds.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// The one that it was made with, or that has taken its place.
    pub own: SecretKey,
    /// The one that is to take its place, or has done so in the present epoch.
    pub next: Option<SecretKey>,
}

impl Secrets {
    /// Reads the files.
    pub fn read(config: &Resolved) -> Result<Secrets, RunError> {
        let (own, next) = (&config.node.key_file, next_file(&config.node.key_file));
        let cure = "`quorate init` writes it; restore it from where it was kept";
        let failed = |path: &Path| machine(format!("the key file {}", path.display()), cure);
        let next = match read(&next) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            found => Some(found.map_err(failed(&next))?),
        };
        Ok(Secrets { own: read(own).map_err(failed(own))?, next })
    }
}

impl From<SecretKey> for Secrets {
    fn from(own: SecretKey) -> Secrets {
        Secrets { own, next: None }
    }
}

/// Where the next key lies: beside the own one.
fn next_file(own: &Path) -> PathBuf {
    let mut name = own.as_os_str().to_owned();
    name.push(".next");
    name.into()
}

fn read(path: &Path) -> io::Result<SecretKey> {
    let text = Zeroizing::new(fs::read_to_string(path)?);
    SecretKey::parse(text.trim()).map_err(|error| io::Error::new(ErrorKind::InvalidData, error.to_string()))
}

/// Makes the next key of a running node.
pub struct Maker {
    me: NodeId,
    key_file: PathBuf,
    roster: Roster,
    give: Box<dyn Fn(SecretKey) + Send + Sync>,
    to_links: Sender<SecretKey>,
    /// One key is made at a time.
    making: Mutex<()>,
}

impl Maker {
    /// For that node; `give` hands a key to its replica, the other end is the links'.
    pub fn new(
        config: &Resolved,
        roster: Roster,
        give: Box<dyn Fn(SecretKey) + Send + Sync>,
    ) -> (Maker, Receiver<SecretKey>) {
        let (to_links, keys) = bounded(MADE_MAX);
        let (me, key_file) = (config.node.id, config.node.key_file.clone());
        (Maker { me, key_file, roster, give, to_links, making: Mutex::default() }, keys)
    }

    fn make(&self) -> io::Result<SecretKey> {
        let next = next_file(&self.key_file);
        let listed = self.roster.latest().membership.members.iter().find(|m| m.id == self.me).map(|m| m.key);
        match read(&next) {
            // It is in force: the other one is worth nothing any more.
            Ok(key) if listed == Some(key.public()) => fs::rename(&next, &self.key_file)?,
            // It was made and never came into force: it still may.
            Ok(key) => return Ok(key),
            Err(error) if error.kind() == ErrorKind::NotFound => (),
            Err(error) => return Err(error),
        }
        let mut entropy = Zeroizing::new([0; 32]);
        SystemEntropy.fill(&mut *entropy);
        let key = SecretKey::from_entropy(*entropy);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
        writeln!(file, "{}", *key.to_hex())?;
        file.sync_all()?;
        // The name must be durable too before anybody believes the key.
        let directory =
            next.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(directory)?.sync_all()?;
        Ok(key)
    }
}

impl KeyMaker for Maker {
    fn next(&self) -> Result<(PublicKey, VerifyingKey), String> {
        let _alone = self.making.lock().map_err(|_| "an earlier key could not be made".to_string())?;
        let key = self.make().map_err(|error| {
            format!(
                "the next key beside {}: {error}; see to the directory and its owner",
                self.key_file.display()
            )
        })?;
        (self.give)(key.clone());
        if self.to_links.try_send(key.clone()).is_err() {
            return Err(format!(
                "{MADE_MAX} requests for keys wait for the links; ask again once the members have changed"
            ));
        }
        Ok((key.public(), key.signing().public()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::Scratch;
    use crate::wire::members::{Member, Membership};
    use crate::wire::roster::Roll;
    use std::os::unix::fs::PermissionsExt;

    fn roll(key: PublicKey) -> Roll {
        let signing_key = VerifyingKey([0; 32]);
        let (peer, client, admin) = Default::default();
        let member = Member { id: NodeId(3), key, signing_key, peer, client, admin };
        let membership =
            Membership { epoch: 1, faulty: 0, retired: Default::default(), members: vec![member] };
        Roll::new(membership, Default::default(), 1, 1)
    }

    #[test]
    fn a_key_is_made_once_until_it_is_in_force_and_takes_the_place_of_the_first_when_another_is_made() {
        let scratch = Scratch::new("keys");
        let (key_file, first) = (scratch.path().join("node-3.key"), SecretKey::from_entropy([1; 32]));
        fs::write(&key_file, format!("{}\n", *first.to_hex())).unwrap();
        let (roster, (to_links, keys)) = (Roster::new(roll(first.public())), bounded(MADE_MAX));
        let give = Box::new(|_| ());
        let maker = Maker {
            me: NodeId(3),
            key_file: key_file.clone(),
            roster: roster.clone(),
            give,
            to_links,
            making: Mutex::default(),
        };
        let (made, signing) = maker.next().unwrap();
        let held = read(&next_file(&key_file)).unwrap();
        assert_eq!((held.public(), held.signing().public()), (made, signing));
        let mode = fs::metadata(next_file(&key_file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(maker.next().unwrap().0, made, "it still may come into force");
        assert_eq!(keys.try_iter().last().unwrap().public(), made);
        roster.put(roll(made));
        let (another, _) = maker.next().unwrap();
        assert_ne!(another, made);
        assert_eq!(read(&key_file).unwrap().public(), made);
        assert_eq!(read(&next_file(&key_file)).unwrap().public(), another);
    }
}
