//! The thread that reads the terminal, and keys as plain data.
//!
//! It waits with `poll` for the terminal or for a wake-up, so that the terminal can be lent to an editor: a paused reader reads nothing.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use super::mailbox::{Event, Mailbox};
use super::terminal;
use crate::app::{Code, Key, Message, Mouse, Size};
use crossterm::event::{
    self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEventKind,
};

/// A Ctrl-C was read that the loop has not taken up yet.
static UNANSWERED: AtomicBool = AtomicBool::new(false);

/// The loop takes up a key.
pub(super) fn answered() {
    UNANSWERED.store(false, Ordering::SeqCst);
}

/// The loop's handle on the reading thread.
#[derive(Debug)]
pub(super) struct Input {
    wake: UnixStream,
    paused: Receiver<()>,
    resume: Sender<()>,
}

impl Input {
    /// Starts reading.
    pub(super) fn start(mailbox: Mailbox) -> io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        let (say_paused, paused) = channel();
        let (resume, wait_resume) = channel();
        thread::Builder::new()
            .name("input".into())
            .spawn(move || read(&mailbox, woken, &say_paused, &wait_resume))?;
        Ok(Self {
            wake,
            paused,
            resume,
        })
    }

    /// Runs `work` while nothing is read from the terminal.
    pub(super) fn paused<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let asked = self.wake.write_all(b"p").is_ok();
        // A reader that ended with the terminal does not answer.
        let waiting = asked && self.paused.recv_timeout(Duration::from_millis(500)).is_ok();
        let result = work();
        if waiting {
            let _ = self.resume.send(());
        }
        result
    }
}

fn read(mailbox: &Mailbox, mut woken: UnixStream, paused: &Sender<()>, resume: &Receiver<()>) {
    let stdin = io::stdin();
    loop {
        let (terminal, wake) = match wait([stdin.as_raw_fd(), woken.as_raw_fd()]) {
            Ok([terminal, wake]) => (terminal, wake),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if wake & (libc::POLLHUP | libc::POLLERR) != 0 {
            return;
        }
        if wake & libc::POLLIN != 0 {
            let mut byte = [0];
            let asked = woken.read(&mut byte).is_ok() && paused.send(()).is_ok();
            if !asked || resume.recv().is_err() {
                return;
            }
            continue;
        }
        if terminal & libc::POLLIN != 0 {
            while let Ok(true) = event::poll(Duration::ZERO) {
                let Ok(event) = event::read() else { return };
                let event = translate(event);
                if matches!(event, Some(Event::Key(key)) if key == Key::ctrl('c'))
                    && UNANSWERED.swap(true, Ordering::SeqCst)
                {
                    // The second one in a row: the loop hangs, on a terminal that takes no bytes perhaps.
                    terminal::leave();
                    std::process::exit(130);
                }
                if let Some(event) = event
                    && !mailbox.post(event)
                {
                    return;
                }
            }
        }
        if terminal & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0 {
            mailbox.post(Event::Terminate);
            return;
        }
    }
}

/// Waits until one of the descriptors can be read or is gone; gives what happened to each.
fn wait(descriptors: [RawFd; 2]) -> io::Result<[libc::c_short; 2]> {
    let mut polled = descriptors.map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    #[expect(unsafe_code, reason = "`poll` is not in the standard library")]
    // SAFETY: the pointer and the length are those of an array that outlives the call.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
    if ready < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(polled.map(|p| p.revents))
}

fn translate(event: event::Event) -> Option<Event> {
    match event {
        event::Event::Key(key) if key.kind != KeyEventKind::Release => {
            translate_key(key).map(Event::Key)
        }
        event::Event::Paste(text) => Some(Event::Message(Message::Paste(text))),
        event::Event::Resize(width, height) => Some(Event::Resize(Size { width, height })),
        event::Event::Mouse(mouse) => {
            let kind = match mouse.kind {
                MouseEventKind::Down(MouseButton::Left) => Mouse::Click,
                MouseEventKind::ScrollUp => Mouse::WheelUp,
                MouseEventKind::ScrollDown => Mouse::WheelDown,
                _ => return None,
            };
            Some(Event::Mouse(kind, mouse.column, mouse.row))
        }
        _ => None,
    }
}

fn translate_key(key: KeyEvent) -> Option<Key> {
    let code = match key.code {
        KeyCode::Char(c) => Code::Char(c),
        KeyCode::Enter => Code::Enter,
        KeyCode::Esc => Code::Esc,
        KeyCode::Tab => Code::Tab,
        KeyCode::BackTab => Code::BackTab,
        KeyCode::Backspace => Code::Backspace,
        KeyCode::Delete => Code::Delete,
        KeyCode::Left => Code::Left,
        KeyCode::Right => Code::Right,
        KeyCode::Up => Code::Up,
        KeyCode::Down => Code::Down,
        KeyCode::Home => Code::Home,
        KeyCode::End => Code::End,
        KeyCode::PageUp => Code::PageUp,
        KeyCode::PageDown => Code::PageDown,
        KeyCode::F(n) => Code::F(n),
        _ => return None,
    };
    Some(Key {
        code,
        ctrl: key.modifiers.contains(KeyModifiers::CONTROL),
        alt: key.modifiers.contains(KeyModifiers::ALT),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shift_is_in_the_character_and_control_beside_it() {
        let key = |code, modifiers| translate_key(KeyEvent::new(code, modifiers));
        assert_eq!(
            key(KeyCode::Char('G'), KeyModifiers::SHIFT),
            Some(Key::char('G'))
        );
        assert_eq!(
            key(KeyCode::Char('c'), KeyModifiers::CONTROL),
            Some(Key::ctrl('c'))
        );
        assert_eq!(key(KeyCode::CapsLock, KeyModifiers::NONE), None);
    }
}
