//! The terminal: taken over, drawn on, and given back whatever happens.
//!
//! [`leave`] may be called from any thread and any number of times. The panic hook calls it before anything is printed, so that a panic
//! of a worker cannot leave a raw terminal behind or write over a drawn screen.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
};
use crossterm::terminal::{
    BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
};
use crossterm::{cursor, queue};
use ratatui::Frame;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::{Position, Rect};

/// Whether the terminal is ours: raw, alternate screen.
static OURS: AtomicBool = AtomicBool::new(false);
/// Whether the mouse is told to us, too.
static MOUSE: AtomicBool = AtomicBool::new(true);
/// Held while bytes go out, so that giving back does not fall into the middle of a frame.
static WRITING: Mutex<()> = Mutex::new(());

/// Collects a frame's bytes and writes them in one piece, or drops them when the terminal is not ours. Clones share their bytes:
/// ratatui has one, [`Terminal`] the other.
#[derive(Debug, Default, Clone)]
struct Output(Rc<RefCell<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    fn commit(&mut self) -> io::Result<()> {
        let guard = WRITING
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let written = if OURS.load(Ordering::SeqCst) {
            let mut out = io::stdout().lock();
            out.write_all(&self.0.borrow()).and_then(|()| out.flush())
        } else {
            Ok(())
        };
        drop(guard);
        self.0.borrow_mut().clear();
        written
    }
}

/// The terminal while it is ours; given back on drop.
pub(super) struct Terminal {
    inner: ratatui::Terminal<CrosstermBackend<Output>>,
    output: Output,
}

impl Terminal {
    /// Takes the terminal over.
    pub(super) fn open(mouse: bool) -> io::Result<Self> {
        MOUSE.store(mouse, Ordering::SeqCst);
        enter()?;
        let output = Output::default();
        match ratatui::Terminal::new(CrosstermBackend::new(output.clone())) {
            Ok(inner) => Ok(Self { inner, output }),
            Err(error) => {
                leave();
                Err(error)
            }
        }
    }

    /// Draws a frame: the cells that changed, as one synchronised update.
    pub(super) fn draw(&mut self, render: impl FnOnce(&mut Frame)) -> io::Result<()> {
        queue!(self.inner.backend_mut(), BeginSynchronizedUpdate)?;
        self.inner.draw(render)?;
        queue!(self.inner.backend_mut(), EndSynchronizedUpdate)?;
        self.output.commit()
    }

    /// Forgets what is on the screen, so that the next frame draws every cell.
    pub(super) fn forget(&mut self) -> io::Result<()> {
        // Not `clear`: that asks the terminal where its cursor is, and the answer would go to the reading thread.
        let size = self.inner.size()?;
        self.inner.resize(Rect::from((Position::ORIGIN, size)))
    }

    /// Puts text on the clipboard of the user's terminal (OSC 52), which works over ssh too where the terminal allows it.
    pub(super) fn copy(&mut self, text: &str) -> io::Result<()> {
        write!(self.output, "\x1b]52;c;{}\x07", base64(text.as_bytes()))?;
        self.output.commit()
    }

    /// Asks the terminal to tell the mouse, or to keep it for selecting text.
    pub(super) fn mouse(&mut self, is_told: bool) -> io::Result<()> {
        MOUSE.store(is_told, Ordering::SeqCst);
        if is_told {
            queue!(self.output, EnableMouseCapture)?;
        } else {
            queue!(self.output, DisableMouseCapture)?;
        }
        self.output.commit()
    }

    /// Gives the terminal to somebody else while `work` runs, then takes it back.
    pub(super) fn lend<T>(&mut self, work: impl FnOnce() -> T) -> io::Result<T> {
        leave();
        let result = work();
        enter()?;
        self.forget()?;
        Ok(result)
    }

    /// Takes the terminal's modes again after others may have changed them.
    pub(super) fn reclaim(&mut self) -> io::Result<()> {
        enter()?;
        self.forget()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        leave();
    }
}

/// Whether the terminal is ours now, and not an editor's or the shell's.
pub(super) fn is_ours() -> bool {
    OURS.load(Ordering::SeqCst)
}

fn enter() -> io::Result<()> {
    crossterm::terminal::enable_raw_mode()?;
    OURS.store(true, Ordering::SeqCst);
    let mut out = io::stdout().lock();
    queue!(
        out,
        EnterAlternateScreen,
        EnableBracketedPaste,
        cursor::Hide
    )?;
    if MOUSE.load(Ordering::SeqCst) {
        queue!(out, EnableMouseCapture)?;
    }
    out.flush()
}

/// Gives the terminal back as it was; does nothing when it is not ours.
pub(super) fn leave() {
    // A frame may be on its way; a terminal that takes none must not keep us here.
    let until = Instant::now() + Duration::from_millis(200);
    let guard = loop {
        match WRITING.try_lock() {
            Ok(guard) => break Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => break Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(TryLockError::WouldBlock) => break None,
        }
    };
    if OURS.swap(false, Ordering::SeqCst) {
        let mut bytes = Vec::new();
        // Writing into memory does not fail, and a terminal that is gone needs nothing back.
        let _ = queue!(
            bytes,
            EndSynchronizedUpdate,
            DisableMouseCapture,
            DisableBracketedPaste,
            cursor::Show,
            LeaveAlternateScreen
        );
        let mut out = io::stdout();
        let _ = out.write_all(&bytes).and_then(|()| out.flush());
        let _ = crossterm::terminal::disable_raw_mode();
    }
    drop(guard);
}

/// From now on a panic in any thread gives the terminal back before it is printed; a panic of another thread than this one also ends
/// the program with code 101, as this thread's would.
pub(super) fn install_panic_hook() {
    let before = std::panic::take_hook();
    let ui = thread::current().id();
    std::panic::set_hook(Box::new(move |info| {
        leave();
        before(info);
        if thread::current().id() != ui {
            std::process::exit(101);
        }
    }));
}

/// Base64 with padding, as OSC 52 wants it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let sextet = (word >> (18 - 6 * i)) & 63;
            text.push(if i > chunk.len() {
                '='
            } else {
                char::from(ALPHABET[sextet as usize])
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads() {
        assert_eq!(base64(b"trestle"), "dHJlc3RsZQ==");
        assert_eq!(base64(b"abc"), "YWJj");
        assert_eq!(base64(b"ab"), "YWI=");
        assert_eq!(base64(b""), "");
    }
}
