//! Prints the manual page, or writes one for each subcommand.

use clap::CommandFactory;
use color_eyre::eyre::WrapErr;

use super::arguments::{Arguments, ManArguments};
use super::{Context, Exit, OrExit, Outcome};

pub(super) fn run(arguments: &ManArguments, context: &Context) -> Outcome {
    let command = Arguments::command();
    if let Some(dir) = &arguments.dir {
        std::fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(command, dir))
            .wrap_err_with(|| format!("cannot write manual pages to {}", dir.display()))
            .or_exit(Exit::Failure)?;
        return Ok(());
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(context.out.write(String::from_utf8_lossy(&page))?)
}
