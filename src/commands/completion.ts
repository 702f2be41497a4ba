import { Argument, Command } from 'commander';
import type { Cli } from './cli.ts';

const shells = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof shells)[number];

/** Scripts that ask banger itself for candidates, so that they never go stale. `__complete` prints one per line. */
export const scripts: Readonly<Record<Shell, string>> = {
  // Readline ends words at ":" and "=": banger gets whole ones, and of what it says readline what it lacks.
  bash: `_banger() {
  local IFS=$'\\n' line=\${COMP_LINE:0:COMP_POINT} word before
  local -a words
  IFS=$' \\t\\n' read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  word=\${words[-1]}
  if [[ $word == --*=* ]]; then
    words[-1]=\${word%%=*}
    word=\${word#*=}
    words+=("$word")
  fi
  COMPREPLY=($(compgen -W "$(banger __complete "\${words[@]:1}" 2>/dev/null)" -- "$word"))
  if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
    before=\${word%"\${word##*:}"}
    COMPREPLY=("\${COMPREPLY[@]#"$before"}")
  fi
}
complete -o default -F _banger banger
`,
  zsh: `#compdef banger
_banger() {
  local -a candidates
  candidates=("\${(@f)$(banger __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -a candidates || _files
}
compdef _banger banger
`,
  fish: `complete -c banger -f -a '(banger __complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
`,
};

const help = `
Examples:
  banger completion bash > ~/.local/share/bash-completion/completions/banger
  banger completion zsh > ~/.zfunc/_banger
  banger completion fish > ~/.config/fish/completions/banger.fish`;

export function completionCommand(cli: Cli): Command {
  return new Command('completion')
    .description('Print a script that completes commands and names in a shell')
    .addArgument(new Argument('<shell>', 'which shell').choices(shells))
    .addHelpText('after', help)
    .action((shell: Shell) => cli.print({ shell, script: scripts[shell] }, (result) => result.script));
}
