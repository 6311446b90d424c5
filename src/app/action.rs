//! Everything a user can do, declared once.
//!
//! The palette, the help overlay, the keymap file and `trestle keys --ui` are made from [`Action::ALL`]. Upper case letters, space
//! and enter in a dialog change a run or a file; everything else only looks.

use super::{Key, Screen};

/// Where an action's keys count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// On every screen, unless the screen has its own meaning for the key.
    Global,
    /// On one screen.
    On(Screen),
}

impl Scope {
    /// The scope as a heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Global => "Global",
            Self::On(screen) => screen.title(),
        }
    }
}

macro_rules! actions {
    ($( $scope:expr => { $( $variant:ident [$($key:literal),*] $name:literal $doc:literal; )* } )*) => {
        /// Something the user can do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Action {
            $($( #[doc = $doc] $variant, )*)*
        }

        impl Action {
            /// Every action, in the order of the help.
            pub const ALL: &'static [Self] = &[ $($( Self::$variant, )*)* ];

            /// Where its keys count.
            pub fn scope(self) -> Scope {
                match self { $($( Self::$variant => $scope, )*)* }
            }

            /// Default keys, each a chord as [`Key::chord`] reads it.
            pub fn default_keys(self) -> &'static [&'static str] {
                match self { $($( Self::$variant => &[$($key),*], )*)* }
            }

            /// A short name for lists.
            pub fn name(self) -> &'static str {
                match self { $($( Self::$variant => $name, )*)* }
            }

            /// One sentence about it.
            pub fn doc(self) -> &'static str {
                match self { $($( Self::$variant => $doc, )*)* }
            }

            fn variant(self) -> &'static str {
                match self { $($( Self::$variant => stringify!($variant), )*)* }
            }
        }
    };
}

actions! {
    Scope::Global => {
        GoRecipes ["1"] "recipes" "Goes to the Recipes screen.";
        GoMapping ["2"] "mapping" "Goes to the Mapping screen: the selected recipe's model, or the one that is open.";
        GoLayout ["3"] "layout" "Goes to the Layout screen of the selected recipe.";
        GoTrain ["4"] "train" "Goes to the Train screen.";
        GoRuns ["5"] "runs" "Goes to the Runs screen.";
        GoLogs ["6"] "logs" "Goes to the Logs screen.";
        NextPane ["tab"] "next pane" "Moves the focus to the next pane.";
        PreviousPane ["S-tab"] "previous pane" "Moves the focus to the previous pane.";
        MoveUp ["up", "k"] "up" "Moves up.";
        MoveDown ["down", "j"] "down" "Moves down.";
        MoveLeft ["left", "h"] "left" "Moves left.";
        MoveRight ["right", "l"] "right" "Moves right.";
        Top ["g g", "home"] "top" "Moves to the first row.";
        Bottom ["G", "end"] "bottom" "Moves to the last row.";
        HalfPageUp ["ctrl-u"] "half page up" "Moves up by half a page.";
        HalfPageDown ["ctrl-d"] "half page down" "Moves down by half a page.";
        PageUp ["pgup"] "page up" "Moves up by a page.";
        PageDown ["pgdn"] "page down" "Moves down by a page.";
        Open ["enter"] "open" "Opens what is under the cursor.";
        Back ["esc"] "back" "Goes back one level.";
        Search ["/"] "search" "Searches or filters the screen; tab in the box switches fuzzy, exact, glob.";
        NextMatch ["n"] "next match" "Moves to the next match of the search.";
        PreviousMatch ["N"] "previous match" "Moves to the previous match of the search.";
        Palette [":", "ctrl-p"] "palette" "Lists every action by name and runs one.";
        Help ["?"] "help" "Shows the keys of this screen.";
        Maximise ["z"] "maximise" "Gives the focused pane the whole screen, and back.";
        Export ["x"] "export" "Writes what the screen shows to a file.";
        Copy ["Y"] "copy" "Copies what is under the cursor to the clipboard (OSC 52).";
        SwitchTheme ["T"] "theme" "Switches between dark and light.";
        SwitchMouse [] "mouse" "Turns the mouse off, so that the terminal selects text with it, or on again; shift and drag selects in most.";
        Redraw ["ctrl-l"] "redraw" "Draws the whole screen again.";
        Suspend ["ctrl-z"] "suspend" "Goes to the shell; `fg` comes back.";
        Quit ["q", "ctrl-c"] "quit" "Leaves; a running trainer goes on.";
    }
    Scope::On(Screen::Recipes) => {
        Launch ["enter"] "launch" "Opens the launch dialog of the selected recipe.";
        LaunchBridge ["b"] "launch by Bridge" "Launches the recipe through Megatron-Bridge, with torchrun or in a Slurm cluster.";
        EditRecipe ["E"] "edit" "Opens $EDITOR at the problem or the cursor.";
        ApplyFix ["F"] "fix" "Applies the fix of the selected problem to the file.";
        NewRecipe ["A"] "new from this" "Writes a new recipe that extends the selected one.";
        MarkRecipe ["space"] "mark" "Marks the recipe for a diff.";
        DiffRecipes ["="] "diff" "Shows how the two marked recipes differ, or the selected one and its base.";
        ApplyLive ["L"] "apply live" "Asks the running trainer of the recipe to take the live values that differ.";
        CheckAll ["v"] "check all" "Validates every recipe again.";
        NextProblem ["]"] "next problem" "Moves to the next problem.";
        PreviousProblem ["["] "previous problem" "Moves to the previous problem.";
    }
    Scope::On(Screen::Mapping) => {
        OpenModel ["o"] "open model" "Opens a published model, a directory of weights, or a run's checkpoint.";
        OtherSide ["tab"] "other side" "Lets the other tree lead.";
        UnmappedOnly ["u"] "unmapped only" "Shows only tensors without a partner.";
        CollapseLayers ["s"] "collapse layers" "Shows equal layers and experts once.";
        NextUnmapped ["]"] "next problem" "Moves to the next problem of the opened files.";
        PreviousUnmapped ["["] "previous problem" "Moves to the previous problem of the opened files.";
        ShardGrid ["#"] "shard grid" "Shows shards as a grid of ranks, or as bars.";
        CutAxis ["a"] "axis" "Chooses the next axis of the layout: tp, pp, vpp, ep, etp.";
        CutMore ["+"] "more" "Doubles the axis, on this screen alone.";
        CutLess ["-"] "less" "Halves the axis, on this screen alone.";
        ResetCut ["r"] "reset" "Takes the recipe's layout again.";
        TraceElement ["t"] "trace element" "Follows an element through all names, indices and ranks.";
        ValueStatistics ["i"] "values" "Reads the tensor's values and shows their statistics.";
        VerifyRoundTrip ["v"] "verify" "Converts the opened directory there and back in memory and compares.";
    }
    Scope::On(Screen::Layout) => {
        HighlightTp ["t"] "highlight tp" "Colours the tensor-parallel groups.";
        HighlightPp ["p"] "highlight pp" "Colours the pipeline-parallel groups.";
        HighlightCp ["c"] "highlight cp" "Colours the context-parallel groups.";
        HighlightDp ["d"] "highlight dp" "Colours the data-parallel groups.";
        HighlightEp ["e"] "highlight ep" "Colours the expert-parallel groups.";
        RankOrder ["o"] "rank order" "Cycles the order of axes in rank numbers.";
        NextKnob ["a"] "what to change" "Chooses the next thing that + and - change: every degree, batch sizes, GPUs, machine.";
        KnobMicroBatch ["m"] "micro batch" "Lets + and - change the micro-batch.";
        KnobGlobalBatch ["b"] "global batch" "Lets + and - change the global batch.";
        KnobGpus ["w"] "GPUs" "Lets + and - change the number of GPUs, the world.";
        AxisMore ["+"] "more" "Doubles what was chosen, as a scratch change.";
        AxisLess ["-"] "less" "Halves what was chosen, as a scratch change.";
        TypeValue ["#"] "type a value" "Asks for the value of what was chosen, as a scratch change.";
        CycleRecompute ["u"] "recompute" "Cycles recompute: nothing, whole layers, parts; as a scratch change.";
        ResetLayout ["r"] "reset" "Forgets scratch changes.";
        MoreMicrobatches ["]"] "more microbatches" "Adds a microbatch, as a scratch change.";
        FewerMicrobatches ["["] "fewer microbatches" "Takes a microbatch away, as a scratch change.";
        MoreStages ["}"] "more virtual stages" "Adds a virtual stage, as a scratch change.";
        FewerStages ["{"] "fewer virtual stages" "Takes a virtual stage away, as a scratch change.";
        SwitchSchedule ["s"] "schedule" "Switches between 1F1B and the interleaved schedule, as a scratch change.";
        MendProblem ["i"] "mend" "Makes the smallest change that mends the problem under the cursor, as a scratch change.";
        MarkLayout ["space"] "mark" "Marks this layout; what follows is compared with it.";
        CompareLayouts ["="] "compare" "Shows the marked layout beside this one, with the differences.";
        FitLayouts ["f"] "fit" "Searches for the layouts that would do best on these GPUs; enter takes one.";
        WriteLayout ["W"] "write" "Writes scratch changes to the recipe's file, comments kept.";
    }
    Scope::On(Screen::Train) => {
        PanLeft ["H"] "pan left" "Moves the charts' window back by half.";
        PanRight ["L"] "pan right" "Moves the charts' window on by half.";
        ZoomIn ["+"] "zoom in" "Halves the charts' window.";
        ZoomOut ["-"] "zoom out" "Doubles the charts' window.";
        ZoomReset ["="] "zoom reset" "Shows the whole run.";
        CycleScale ["y"] "scale" "Cycles linear, log y, log-log.";
        CycleXAxis ["a"] "x axis" "Cycles steps, tokens, time.";
        SmoothLess [","] "smooth less" "Smooths less.";
        SmoothMore ["."] "smooth more" "Smooths more.";
        ToggleBand ["b"] "band" "Shows or hides the band from minimum to maximum.";
        InspectAll ["i"] "inspect" "Shows the cursor's values in every chart.";
        FollowTail ["f"] "follow" "Follows the newest step.";
        OverlayMetric ["o"] "overlay" "Chooses the metric of the main chart.";
        PauseRun ["space"] "pause" "Pauses the run, or lets it go on.";
        CheckpointNow ["C"] "checkpoint" "Writes a checkpoint at the next step.";
        StopRun ["S"] "stop" "Stops the run; asks how.";
        LiveEdit ["E"] "edit live" "Changes live keys of the running trainer.";
        AlertRules ["A"] "alerts" "Shows the alert rules.";
        RunDetails ["d"] "details" "Shows what trains, how utilisation is counted, and the memory plan.";
        MarkNote ["M"] "mark" "Writes a note into the run.";
        ResumeRun ["R"] "resume" "Starts a trainer that continues from the last checkpoint.";
        ForkRun ["F"] "fork" "Starts a new run from a checkpoint of this one.";
    }
    Scope::On(Screen::Runs) => {
        MarkRun ["space"] "mark" "Marks the run for comparison.";
        Baseline ["b"] "baseline" "Makes the run the baseline of comparisons.";
        DifferingKeys ["d"] "differing keys" "Shows only the keys that differ, or all.";
        DiffRunRecipes ["="] "recipe diff" "Shows how the marked runs' recipes differ.";
        CompareMetric ["o"] "metric" "Chooses the compared metric.";
        ResumeThisRun ["R"] "resume" "Starts a trainer that continues this run, or submits its job again.";
        EndJob ["S"] "stop job" "Stops or cancels the run's job in its queue; asks how.";
        ForkThisRun ["F"] "fork" "Starts a new run from a checkpoint of this one.";
        TagRun ["t"] "tag" "Gives the run a tag.";
        WatchPath ["W"] "watch" "Watches a run that another program trains: its log, its event files, or a folder of either.";
        DeleteRun ["D"] "delete" "Moves the run to the trash; asks first.";
    }
    Scope::On(Screen::Logs) => {
        FollowLog ["f"] "follow" "Follows the end of the log.";
        LogLevel ["w"] "level" "Cycles the lowest level shown.";
        LogRank ["r"] "rank" "Chooses the rank shown, of those that launchers put before their lines.";
        CollapseLines ["s"] "collapse" "Shows lines that say the same once, or each.";
        LogToChart ["c"] "chart cursor" "Moves the charts' cursor to the line's step.";
        SaveLog ["S"] "save filtered" "Writes the shown lines to a file.";
    }
}

impl Action {
    /// The name in the keymap file: the variant in snake case.
    pub fn id(self) -> String {
        let mut id = String::new();
        for c in self.variant().chars() {
            if c.is_ascii_uppercase() && !id.is_empty() {
                id.push('_');
            }
            id.push(c.to_ascii_lowercase());
        }
        id
    }

    /// The action of a keymap file's name.
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.id() == id)
    }

    /// The default keys, read.
    pub fn default_chords(self) -> Vec<Vec<Key>> {
        self.default_keys()
            .iter()
            .filter_map(|text| Key::chord(text).ok())
            .collect()
    }

    /// The name with its scope, as the palette lists it: "Train: pause".
    pub fn full_name(self) -> String {
        match self.scope() {
            Scope::Global => self.name().to_owned(),
            Scope::On(screen) => format!("{}: {}", screen.title(), self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn default_keys_can_all_be_read() {
        for action in Action::ALL {
            assert_eq!(
                action.default_chords().len(),
                action.default_keys().len(),
                "{}",
                action.id()
            );
        }
    }

    #[test]
    fn a_key_means_one_thing_in_a_scope() {
        let mut seen = HashSet::new();
        for action in Action::ALL {
            for chord in action.default_chords() {
                assert!(seen.insert((action.scope(), chord)), "{}", action.id());
            }
        }
    }

    #[test]
    fn screens_take_over_only_enter_and_tab_from_the_global_keys() {
        let global: HashSet<_> = Action::ALL
            .iter()
            .filter(|a| a.scope() == Scope::Global)
            .flat_map(|a| a.default_chords())
            .collect();
        for action in Action::ALL.iter().filter(|a| a.scope() != Scope::Global) {
            for chord in action.default_chords() {
                let allowed =
                    ["enter", "tab"].contains(&super::super::key::display(&chord).as_str());
                assert!(allowed || !global.contains(&chord), "{}", action.id());
            }
        }
    }

    #[test]
    fn ids_are_unique_and_found_again() {
        for action in Action::ALL {
            assert_eq!(Action::from_id(&action.id()), Some(*action));
            assert!(action.doc().ends_with('.'));
        }
        assert_eq!(Action::GoRecipes.id(), "go_recipes");
    }
}
