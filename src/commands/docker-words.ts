/** Commands that users of docker type and that are another thing here, with what to type instead. */
const commands: Readonly<Record<string, string>> = {
  build:
    'banger builds no images. Bring one over with: docker save IMAGE | banger image import - --name IMAGE',
  images: 'Did you mean: banger image list',
  load: 'Did you mean: banger image import FILE, or banger image import - --name NAME',
  login: 'Registries get the logins that docker has: docker login REGISTRY',
  logout: 'Registries get the logins that docker has: docker logout REGISTRY',
  push: 'banger pushes no images. Hand one to docker with: banger image export IMAGE | docker load',
  rmi: 'Did you mean: banger image delete',
  save: 'Did you mean: banger image export IMAGE -o FILE',
};

/** The same for options, by the command. */
const options: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'banger image delete': {
    '-f': 'An image that VMs use goes after them: banger vm delete VM; one that has several names goes by its id',
  },
};
const longOptions: Readonly<Record<string, string>> = { '--force': '-f' };

/** What helps who has typed one of docker's commands behind `banger` or `banger image`. */
export function dockerCommandHint(command: string, name: string): string | undefined {
  if (command !== 'banger' && command !== 'banger image') return undefined;
  return Object.hasOwn(commands, name) ? commands[name] : undefined;
}

export function dockerOptionHint(command: string, option: string): string | undefined {
  return options[command]?.[longOptions[option] ?? option];
}
