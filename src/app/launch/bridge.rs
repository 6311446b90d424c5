//! Launching through Megatron-Bridge: what the dialog asks, what was found, what is asked of the runtime.

use std::path::PathBuf;

use crate::app::Screen;
use crate::app::Tone;
use crate::app::dialog::{Answer, Choice, Field, Form, Note, Purpose};
use crate::app::recipes::Entry;
use crate::base::Severity;

/// What a form or a choice of this dialog is about.
pub const ABOUT: &str = "bridge";

/// Where a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// In a Slurm cluster.
    #[default]
    Slurm,
    /// On this machine, a process a GPU.
    Torchrun,
}

impl Place {
    const WORDS: [&'static str; 2] = ["slurm", "torchrun"];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Slurm => Self::WORDS[0],
            Self::Torchrun => Self::WORDS[1],
        }
    }
}

/// A job to look at or to start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BridgeRequest {
    /// The recipe's file.
    pub recipe: PathBuf,
    /// Where it runs.
    pub place: Place,
    /// The profile; none takes the only one.
    pub profile: Option<String>,
    /// Upstream's recipe; none takes the recipe's own.
    pub upstream: Option<String>,
    /// Weights to start from.
    pub pretrained: Option<PathBuf>,
    /// The run's name.
    pub name: Option<String>,
    /// `key=value` overrides.
    pub sets: Vec<String>,
    /// Problems that are accepted by name.
    pub accept: Vec<String>,
    /// Words to find the run by.
    pub tags: Vec<String>,
}

/// Something that was found before the launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Errors keep the job from starting.
    pub severity: Severity,
    /// By which it is accepted.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// A job that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// What was asked.
    pub request: BridgeRequest,
    /// The profile that was taken.
    pub profile: String,
    /// What it takes, and what was asked of tools, a line each.
    pub facts: Vec<String>,
    /// What was found, errors first.
    pub found: Vec<Found>,
    /// Codes of errors that are not accepted.
    pub refused: Vec<String>,
    /// The script, or why there is none.
    pub script: Result<String, String>,
}

/// Work for the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Read the names of profiles.
    Profiles,
    /// Look at a job without starting it.
    Look(BridgeRequest),
    /// Start a job that was looked at.
    Start(BridgeRequest),
}

/// What the runtime tells.
#[derive(Debug)]
pub enum Message {
    /// The profiles' names, or why there are none.
    Profiles(Result<Vec<String>, String>),
    /// What was found.
    Looked(Result<Box<Looked>, String>),
    /// The run's folder and what was started, or why not.
    Started(Result<(PathBuf, String), String>),
}

const PLACE: usize = 0;
const PROFILE: usize = 1;
const NAME: usize = 2;
const WEIGHTS: usize = 3;
const OVERRIDES: usize = 4;
const TAGS: usize = 5;
const UPSTREAM: usize = 6;

/// The dialog of a recipe: one for Bridge, or one of our own trainer's, which has to name upstream's recipe.
pub fn form(entry: &Entry) -> Option<Form> {
    let checked = entry.checked.as_ref()?;
    let mut fields = vec![
        Field::choice("where", &Place::WORDS, 0),
        Field::choice("profile", &["reading..."], 0),
        Field::text(
            "run name",
            "",
            "empty: made from the recipe's name and a number",
        ),
        Field::text(
            "weights",
            "",
            "a Megatron checkpoint or a Hugging Face folder",
        ),
        Field::text("overrides", "", "key=value key=value"),
        Field::text("tags", "", "words to find the run by"),
    ];
    let mut notes = Vec::new();
    if let Some(about) = &checked.megatron {
        notes.push(Note::new(Tone::Neutral, about.clone()));
    } else {
        entry.good.as_ref()?;
        fields.push(Field::text(
            "upstream",
            "",
            "Megatron-Bridge's name of the recipe",
        ));
    }
    notes.push(Note::new(
        Tone::Neutral,
        "enter looks at the plan, the paths and the tools, and shows the script; nothing is started yet",
    ));
    Some(Form {
        title: format!("Launch {} through Megatron-Bridge", entry.name),
        fields,
        focus: 0,
        notes,
        accept: "look".into(),
        error: None,
        purpose: Purpose::Screen(Screen::Recipes, ABOUT, entry.path.clone()),
    })
}

/// Puts the names of profiles into a dialog, or says why there are none.
pub fn fill(form: &mut Form, profiles: &Result<Vec<String>, String>) {
    match profiles {
        Ok(names) => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            form.fields[PROFILE] = Field::choice("profile", &names, 0);
        }
        Err(why) => {
            form.fields[PROFILE] = Field::text("profile", "", "");
            form.notes.push(Note::new(Tone::Bad, why.clone()));
        }
    }
}

/// What a filled-in dialog asks for.
pub fn request(form: &Form, recipe: PathBuf) -> Result<BridgeRequest, String> {
    let said = |field: usize| Some(form.text(field).trim().to_owned()).filter(|t| !t.is_empty());
    let words = |field: usize| form.text(field).split_whitespace().map(str::to_owned);
    let name = said(NAME);
    if let Some(name) = name
        .as_ref()
        .filter(|name| name.contains(['/', '\\']) || name.starts_with('.'))
    {
        return Err(format!("run name `{name}` has to be a folder's name"));
    }
    if let Some(set) = words(OVERRIDES).find(|set| !set.contains('=')) {
        return Err(format!("override `{set}` has no `=`"));
    }
    if form.text(PROFILE) == "reading..." {
        return Err("the profiles are not read yet".into());
    }
    let place = match form.text(PLACE) {
        "torchrun" => Place::Torchrun,
        _ => Place::Slurm,
    };
    Ok(BridgeRequest {
        recipe,
        place,
        profile: said(PROFILE),
        upstream: said(UPSTREAM),
        pretrained: said(WEIGHTS).map(PathBuf::from),
        name,
        sets: words(OVERRIDES).collect(),
        accept: Vec::new(),
        tags: words(TAGS).collect(),
    })
}

/// Width of the lines of what was found.
const WIDTH: usize = 68;
/// The most lines of what was found beside the answers; the script's view has all.
const LINES: usize = 12;

/// Answers of [`choice`], in order.
pub const SHOW: usize = 0;
/// Starts the job.
pub const START: usize = 1;
/// Starts it in spite of what was found.
pub const ACCEPT: usize = 2;

/// Everything that was found, for reading.
pub fn lines(looked: &Looked) -> Vec<Note> {
    let mut notes: Vec<Note> = Vec::new();
    let mut add = |tone: Tone, text: &str| {
        for row in rows(text, WIDTH) {
            notes.push(Note::new(tone, row));
        }
    };
    for found in &looked.found {
        let (word, tone) = match found.severity {
            Severity::Error => ("error", Tone::Bad),
            Severity::Warning => ("warning", Tone::Neutral),
        };
        let is_accepted = looked.request.accept.contains(&found.code);
        let accepted = if is_accepted { " (accepted)" } else { "" };
        add(
            tone,
            &format!("{word}[{}]{accepted}: {}", found.code, found.message),
        );
        if let Some(hint) = &found.hint {
            add(Tone::Neutral, &format!("  hint: {hint}"));
        }
    }
    for fact in &looked.facts {
        add(Tone::Good, fact);
    }
    notes
}

/// What was found, and what can be done now.
pub fn choice(looked: &Looked) -> Choice {
    let request = &looked.request;
    let mut notes = lines(looked);
    if notes.len() > LINES {
        let more = notes.len() - LINES;
        notes.truncate(LINES);
        notes.push(Note::new(
            Tone::Neutral,
            format!("... {more} more lines: s shows them"),
        ));
    }
    let mut start = Answer::new('l', "launch", "");
    let mut accept = Answer::new('a', "launch all the same", looked.refused.join(", "));
    if let Err(why) = &looked.script {
        start.unavailable = Some(why.clone());
        accept.unavailable = Some(why.clone());
    } else if looked.refused.is_empty() {
        accept.unavailable = Some("nothing has to be accepted".into());
    } else {
        start.unavailable = Some(format!("it cannot start: {}", looked.refused.join(", ")));
    }
    let selected = if start.unavailable.is_none() {
        START
    } else {
        SHOW
    };
    let place = request.place.word();
    Choice {
        title: format!("Launch on {place}, profile {}", looked.profile),
        notes,
        answers: vec![
            Answer::new('s', "show", "the script and all that was found"),
            start,
            accept,
        ],
        selected,
        purpose: Purpose::Screen(Screen::Recipes, ABOUT, request.recipe.clone()),
    }
}

/// A text cut between words so that each row fits into `width`; a word that is longer is cut.
fn rows(text: &str, width: usize) -> Vec<String> {
    let mut rows = vec![String::new()];
    for word in text.split_inclusive(' ') {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let last = rows.last().map_or(0, |row| row.chars().count());
            let length = word.iter().collect::<String>().trim_end().chars().count();
            if last + length <= width {
                break;
            }
            if last > 0 {
                rows.push(String::new());
                continue;
            }
            let rest = word.split_off(width);
            rows.push(word.into_iter().collect());
            rows.push(String::new());
            word = rest;
        }
        if let Some(row) = rows.last_mut() {
            row.extend(word);
        }
    }
    rows.retain(|row| !row.is_empty());
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked() -> Looked {
        Looked {
            request: BridgeRequest::default(),
            profile: "h100".into(),
            facts: vec!["16 GPUs".into()],
            found: vec![Found {
                severity: Severity::Error,
                code: "weights".into(),
                message: "none ".repeat(400),
                hint: Some("x".repeat(200)),
            }],
            refused: vec!["weights".into()],
            script: Ok("#!".into()),
        }
    }

    #[test]
    fn rows_hold_every_word_and_none_is_too_long() {
        for text in ["", "a", &"long ".repeat(60), &"x".repeat(300), "a  b"] {
            let rows = rows(text, 20);
            assert_eq!(rows.concat(), text);
            assert!(
                rows.iter().all(|row| row.trim_end().chars().count() <= 20),
                "{rows:?}"
            );
        }
    }

    #[test]
    fn errors_leave_only_a_launch_in_spite_of_them() {
        let mut looked = looked();
        let refused = choice(&looked);
        assert!(refused.answers[START].unavailable.is_some());
        assert_eq!(refused.answers[ACCEPT].unavailable, None);
        assert!(refused.notes.len() <= LINES + 1);
        looked.refused.clear();
        let fine = choice(&looked);
        assert_eq!(
            (fine.selected, &fine.answers[START].unavailable),
            (START, &None)
        );
        looked.script = Err("no nodes".into());
        let impossible = choice(&looked);
        assert!(impossible.answers[START].unavailable.is_some());
        assert!(impossible.answers[ACCEPT].unavailable.is_some());
    }
}
