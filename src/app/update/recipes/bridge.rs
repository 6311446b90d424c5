//! The launch dialog for jobs of Megatron-Bridge.

use crate::app::dialog::{Dialog, Form, Note, Purpose, View};
use crate::app::launch::bridge::{self, ABOUT, Effect as Bridge, Message};
use crate::app::{Effect, Screen, State, Tone, runs};

/// Why the dialog cannot be opened.
pub(super) fn unavailable(state: &State) -> Option<String> {
    let entry = state.recipes.selected()?;
    match &entry.checked {
        None => Some("the recipe is not validated yet".into()),
        Some(checked) if checked.megatron.is_none() && entry.good.is_none() => {
            Some("the recipe has errors".into())
        }
        Some(_) => None,
    }
}

/// Opens the dialog and reads the profiles.
pub(super) fn open(state: &mut State) -> Vec<Effect> {
    let form = state.recipes.selected().and_then(bridge::form);
    let Some(form) = form else {
        return vec![];
    };
    state.dialogs.push(Dialog::Form(form));
    vec![Effect::Bridge(Bridge::Profiles)]
}

/// Asks for a look at the job.
pub(super) fn accept(state: &mut State, form: &Form) -> Result<Vec<Effect>, String> {
    let Purpose::Screen(_, _, recipe) = &form.purpose else {
        return Ok(vec![]);
    };
    let request = bridge::request(form, recipe.clone())?;
    state.say(
        Tone::Neutral,
        "looking at the plan, the paths and the tools...",
    );
    Ok(vec![Effect::Bridge(Bridge::Look(request))])
}

/// An answer to what was found.
pub(super) fn choose(state: &mut State, answer: usize) -> Vec<Effect> {
    let Some(looked) = &state.recipes.bridge else {
        return vec![];
    };
    let mut request = looked.request.clone();
    match answer {
        bridge::SHOW => {
            let mut lines = bridge::lines(looked);
            let script = match &looked.script {
                Ok(script) => script.clone(),
                Err(why) => format!("no script: {why}"),
            };
            lines.push(Note::new(Tone::Neutral, ""));
            lines.extend(script.lines().map(|line| Note::new(Tone::Neutral, line)));
            let title = format!("Script for {}", request.place.word());
            let choice = bridge::choice(looked);
            state.dialogs.push(Dialog::Choice(choice));
            state.dialogs.push(Dialog::View(View {
                title,
                lines,
                scroll: 0,
            }));
            vec![]
        }
        bridge::ACCEPT => {
            request.accept.extend(looked.refused.iter().cloned());
            start(state, request)
        }
        _ => start(state, request),
    }
}

fn start(state: &mut State, request: bridge::BridgeRequest) -> Vec<Effect> {
    state.say(
        Tone::Neutral,
        format!("starting it on {}...", request.place.word()),
    );
    vec![Effect::Bridge(Bridge::Start(request))]
}

/// Takes up what the runtime tells.
pub(in crate::app::update) fn message(state: &mut State, message: Message) -> Vec<Effect> {
    match message {
        Message::Profiles(profiles) => {
            for dialog in &mut state.dialogs {
                if let Dialog::Form(form) = dialog
                    && matches!(form.purpose, Purpose::Screen(_, ABOUT, _))
                {
                    bridge::fill(form, &profiles);
                }
            }
            vec![]
        }
        Message::Looked(Ok(looked)) => {
            // Whoever went on meanwhile is not called back.
            if state.screen == Screen::Recipes && state.dialogs.is_empty() {
                state.dialogs.push(Dialog::Choice(bridge::choice(&looked)));
            }
            state.recipes.bridge = Some(*looked);
            vec![]
        }
        Message::Started(Ok((run, text))) => {
            state.say(Tone::Good, text);
            state.recipes.bridge = None;
            state.screen = Screen::Runs;
            state.runs.wanted = Some(run);
            vec![Effect::Runs(runs::Effect::List)]
        }
        Message::Looked(Err(why)) | Message::Started(Err(why)) => {
            state.say(Tone::Bad, why);
            vec![]
        }
    }
}
