//! The lines of child processes.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};

/// What a child prints, line by line, until it closes its output.
pub(super) fn lines_of(child: &mut Child) -> Receiver<String> {
    let stdout = child.stdout.take().expect("it was asked for");
    let (tell, output) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody listens any more once the child is ready.
            let _ = tell.send(line);
        }
    });
    output
}
