//! The thread that waits for signals.

use std::io;
use std::thread;

use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;

use super::mailbox::{Event, Mailbox};
use super::terminal;
use crate::app::Size;

/// Starts waiting; signals become events.
pub(super) fn start(mailbox: Mailbox) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT, SIGWINCH])?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                let event = match signal {
                    // An editor has the terminal and stops too: the loop waits for it and could not.
                    SIGTSTP if !terminal::is_ours() => {
                        stop_myself();
                        continue;
                    }
                    SIGINT if !terminal::is_ours() => continue,
                    SIGTSTP => Event::Suspend,
                    SIGCONT => Event::Continue,
                    SIGWINCH => match crossterm::terminal::size() {
                        Ok((width, height)) => Event::Resize(Size { width, height }),
                        Err(_) => continue,
                    },
                    _ => Event::Terminate,
                };
                if !mailbox.post(event) {
                    return;
                }
            }
        })?;
    Ok(())
}

/// Stops this process as SIGTSTP does by default; returns when it is continued.
pub(super) fn stop_myself() {
    // Fails only for signals that do not exist.
    let _ = signal_hook::low_level::emulate_default_handler(SIGTSTP);
}
