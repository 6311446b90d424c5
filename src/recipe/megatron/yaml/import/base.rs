//! The published recipe that an import is a change of, and the recipe that is left to say.

use std::collections::BTreeSet;

use super::super::{At, Imported, Published};
use super::Import;
use crate::recipe::megatron::{Megatron, options, settings};
use crate::recipe::print;
use crate::recipe::value::Value;

impl Import<'_> {
    pub(super) fn finish(mut self, published: &[Published]) -> Imported {
        let base = self.like(published).cloned();
        if self.nulls > 0 && !self.is_ours && base.is_none() {
            let message = format!(
                "{} options are null, which is as if they were not there",
                self.nulls
            );
            self.warn("W0447", At::TOP, message);
        }
        let said: BTreeSet<String> = base
            .iter()
            .flat_map(|base| settings(&base.recipe))
            .filter_map(|(path, value)| value.map(|_| path))
            .collect();
        let mut unset = std::mem::take(&mut self.unset);
        unset.retain(|path| self.is_ours || said.contains(path));
        let texts =
            |paths: Vec<String>| Value::List(paths.into_iter().map(Value::String).collect());
        if !unset.is_empty() {
            self.values.insert("megatron.unset", texts(unset));
        }
        if !self.overrides.is_empty() {
            let overrides = sorted(std::mem::take(&mut self.overrides));
            self.values.insert("megatron.overrides", overrides);
        }
        if !self.environment.is_empty() {
            let environment = sorted(std::mem::take(&mut self.environment));
            self.values.insert("megatron.env", environment);
        }
        if let Some(base) = &base {
            self.against(&base.recipe);
            let path = Value::String(base.path.to_string_lossy().into_owned());
            self.values.insert("extends", Value::List(vec![path]));
        } else {
            self.missing();
        }
        let title = "# Imported from a configuration of Megatron-Bridge.\n";
        Imported {
            toml: print::document(title, |key| self.values.get(key).cloned()),
            extends: base.map(|base| base.path),
            warnings: self.warnings,
        }
    }

    /// The published recipe of the same name, else the one of the same model that most options agree with.
    fn like<'b>(&self, published: &'b [Published]) -> Option<&'b Published> {
        if let Some(name) = self.values.get("megatron.recipe").and_then(Value::as_str) {
            return published.iter().find(|p| {
                p.recipe.recipe == name
                    || matches!(p.recipe.get("megatron.aliases"), Some(Value::List(aliases))
                        if aliases.iter().any(|alias| alias.as_str() == Some(name)))
            });
        }
        let counted = published.iter().filter_map(|p| {
            let of_job = ["megatron.model.hf_model_id", "megatron.mode"];
            let is_other = of_job.iter().any(|key| {
                let ours = self.values.get(key);
                ours.is_some() && p.recipe.get(key) != ours
            });
            let is_other =
                is_other || self.is_full && p.recipe.text("megatron.mode") == Some("peft");
            let both = p.recipe.said().filter_map(|(key, said)| {
                let is_option = !options(key.path).is_empty();
                Some((said, self.values.get(key.path).filter(|_| is_option)?))
            });
            let (agree, differ): (Vec<_>, Vec<_>) = both.partition(|(said, ours)| said == ours);
            let is_like = !is_other && agree.len() >= 10 && differ.len() * 4 <= agree.len();
            is_like.then_some((differ.len(), usize::MAX - agree.len(), p))
        });
        counted
            .min_by_key(|(differ, agree, p)| (*differ, *agree, p.recipe.recipe.clone()))
            .map(|(_, _, p)| p)
    }

    /// Takes out what the base says already.
    fn against(&mut self, base: &Megatron) {
        if !self.values.contains_key("megatron.recipe") {
            let message = format!(
                "the recipe is taken to be {} on {} GPUs, which it is most like",
                base.recipe, base.gpus
            );
            self.warn("W0448", At::TOP, message).hint =
                Some("say --recipe NAME and --gpus N if it is another one".into());
        }
        // An alias names the same recipe.
        self.values
            .insert("megatron.recipe", Value::String(base.recipe.clone()));
        for key in ["megatron.env", "megatron.overrides"] {
            if let Some(Value::Table(entries)) = self.values.get_mut(key) {
                entries.retain(|entry| !base.entries(key).contains(entry));
                if entries.is_empty() {
                    self.values.remove(key);
                }
            }
        }
        let depth = Value::count(base.model.text.mtp_num_hidden_layers);
        self.values.retain(|key, value| {
            let is_depth = *key == "model.mtp_num_hidden_layers" && *value == depth;
            !is_depth && base.get(key) != Some(value)
        });
    }

    /// Warns of what a recipe must say and this one does not.
    fn missing(&mut self) {
        let is_said = |key: &str| self.values.contains_key(key);
        let mut missing: Vec<&str> = ["megatron.recipe", "megatron.gpus"]
            .into_iter()
            .filter(|key| !is_said(key))
            .collect();
        if !is_said("model.size") && !is_said("model.hf") {
            missing.push("model.size");
        }
        if !missing.is_empty() {
            let message = format!(
                "the configuration does not say {}, and no published recipe is like it",
                missing.join(", ")
            );
            self.warn("W0449", At::TOP, message).hint =
                Some("say --recipe NAME and --gpus N, or write them into the recipe".into());
        }
    }
}

fn sorted(mut entries: Vec<(String, Value)>) -> Value {
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Value::Table(entries)
}
