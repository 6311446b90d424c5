//! The workbench as a state machine: state, actions, messages, effects, update.
