/** A program of the host that VMs need. */
export type HostProgram = 'qemu' | 'qemu-img' | 'git';

interface PackageManager {
  /** Values of ID and ID_LIKE in os-release(5) */
  readonly distributions: readonly string[];
  readonly install: string;
  readonly packages: Readonly<Record<HostProgram, string>>;
}

const packageManagers: readonly PackageManager[] = [
  {
    distributions: ['debian', 'ubuntu'],
    install: 'sudo apt-get install',
    packages: { qemu: 'qemu-system-x86', 'qemu-img': 'qemu-utils', git: 'git' },
  },
  {
    distributions: ['fedora', 'rhel', 'centos'],
    install: 'sudo dnf install',
    packages: { qemu: 'qemu-kvm', 'qemu-img': 'qemu-img', git: 'git' },
  },
  {
    distributions: ['arch'],
    install: 'sudo pacman -S',
    packages: { qemu: 'qemu-system-x86', 'qemu-img': 'qemu-img', git: 'git' },
  },
  {
    distributions: ['suse', 'opensuse'],
    install: 'sudo zypper install',
    packages: { qemu: 'qemu-x86', 'qemu-img': 'qemu-img', git: 'git' },
  },
  {
    distributions: ['alpine'],
    install: 'sudo apk add',
    packages: { qemu: 'qemu-system-x86_64', 'qemu-img': 'qemu-img', git: 'git' },
  },
];

/** How to install a program here; `osRelease` is the text of /etc/os-release, empty when there is none. */
export function installHint(osRelease: string, program: HostProgram): string {
  const ids = [...osRelease.matchAll(/^(?:ID|ID_LIKE)=(.*)$/gm)].flatMap((match) =>
    match[1]!.replace(/["']/g, '').split(/\s+/),
  );
  for (const id of ids) {
    const manager = packageManagers.find((one) => one.distributions.includes(id));
    if (manager) return `Install it with: ${manager.install} ${manager.packages[program]}`;
  }
  return `Install the package of your distribution that has ${program === 'qemu' ? 'qemu-system-x86_64' : program}`;
}
