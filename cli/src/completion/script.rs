//! The scripts that make a shell ask. The one for bash is our own, because of how bash breaks words; the others are
//! those of clap's engine.

use super::VARIABLE;
use clap_complete::env::{Elvish, EnvCompleter, Fish, Powershell, Zsh};

/// Shells that can complete our words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// Write it into /etc/bash_completion.d or ~/.local/share/bash-completion/completions/
    Bash,
    /// Write it into a folder of $fpath, as `_` and the name of the program
    Zsh,
    /// Write it into ~/.config/fish/completions/
    Fish,
    /// Write it into the file that $PROFILE names
    Powershell,
    /// Write it into ~/.config/elvish/rc.elv
    Elvish,
}

impl Shell {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Bash, Self::Zsh, Self::Fish, Self::Powershell, Self::Elvish];

    /// The shell of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        <Self as clap::ValueEnum>::from_str(name, false).ok()
    }
}

const BASH: &str = r#"# Completes words of PROGRAM in bash. Made by `PROGRAM completion bash`.
_PROGRAM_complete() {
    local line
    COMPREPLY=()
    while IFS= read -r line || [[ -n $line ]]; do
        COMPREPLY+=("$line")
    done < <(VARIABLE=bash _KNIT_LINE="${COMP_LINE:0:COMP_POINT}" _KNIT_WORD="$2" _KNIT_TYPE="$COMP_TYPE" \
        PROGRAM 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o bashdefault -o nosort -F _PROGRAM_complete PROGRAM 2>/dev/null ||
    complete -o bashdefault -F _PROGRAM_complete PROGRAM
"#;

const ZSH_ITSELF: &str = r#"if [[ "${funcstack[1]-}" == "_PROGRAM" ]]; then
    _clap_dynamic_completer_PROGRAM "$@"
fi
"#;

/// The script for a shell; it calls the program by its name.
///
/// # Errors
/// None that a script in memory could have.
pub fn script(shell: Shell, program: &str) -> std::io::Result<String> {
    let completer: &dyn EnvCompleter = match shell {
        Shell::Bash => return Ok(BASH.replace("PROGRAM", program).replace("VARIABLE", VARIABLE)),
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
        Shell::Powershell => &Powershell,
        Shell::Elvish => &Elvish,
    };
    let mut bytes = Vec::new();
    completer.write_registration(VARIABLE, program, program, program, &mut bytes)?;
    let mut text = String::from_utf8(bytes).map_err(std::io::Error::other)?.trim().to_owned();
    text.push('\n');
    if shell == Shell::Zsh {
        // Read from a folder of $fpath, the script is the function itself, and its first call must answer, too.
        text.push_str(&ZSH_ITSELF.replace("PROGRAM", program));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_calls_the_program_by_name_and_with_the_variable_that_it_reads() {
        for shell in Shell::ALL {
            for program in ["knit", "knitctl"] {
                let text = script(shell, program).unwrap();
                assert!(text.contains(VARIABLE) && text.contains(program), "{shell:?}: {text}");
                assert!(!text.contains("PROGRAM") && !text.contains("VARIABLE"), "{shell:?}: {text}");
            }
        }
    }
}
