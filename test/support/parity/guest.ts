import { appendFile, chmod, copyFile, readFile } from 'node:fs/promises';
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { directoryAssets } from '../../../src/host/assets.ts';
import { cpioArchive } from '../../../src/host/cpio.ts';
import { userCard } from '../../../src/host/drivers/driver.ts';
import { shellPort } from './traffic.ts';

/**
 * The guest of the list that every driver is held to (list.ts): our kernel and initrd with a program of its own as
 * init, which does what its disk and its kernel's words say, and prints what it sees. With a card it has the addresses
 * of a user network, and a shell and an echo (echo.c) that listen there; nothing else can be sent to it.
 *
 * `goes-on` ticks until its disk has grown twice, and powers off; `waits` does nothing and needs no disk; `stops` writes to
 * the filesystem on its disk and ends as a guest of the engine's that is stopped; the others end at once in their own way.
 */
export type GuestTask = 'goes-on' | 'waits' | 'stops' | 'reset' | 'panic';

export const diskBytes = 64 * 1024 ** 2;
/** What the guest fills, and then discards. */
export const discardedBytes = 8 * 1024 ** 2;
/** What a guest that stops writes, and waits for. */
export const timedBytes = 8 * 1024 ** 2;
/** What it writes to `/kept`, and does not wait for. */
export const keptWords = 'written and not waited for';

export function guestWords(task: GuestTask): string[] {
  return ['rdinit=/parity', `parity=${task}`];
}

const program = `#!/run/banger/bin/busybox sh
/run/banger/bin/busybox mount -t proc proc /proc
read -r words </proc/cmdline
task=\${words##*parity=}
task=\${task%% *}
mkdir -p /sys
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r when files; do
  case $when in
    base | pci | mmio | disk | network) for file in $files; do insmod "/run/banger/modules/$file"; done ;;
  esac
done </run/banger/modules/order

if [ -e /dev/vda ]; then
  echo "parity-disk $(head -c 32 /dev/vda | tr -d '\\0')"
  echo "left by $task" | dd of=/dev/vda bs=512 conv=notrunc,fsync 2>/dev/null
fi
case $task in
  waits) echo parity-waits; while :; do sleep 10; done ;;
  reset) reboot -f ;;
  panic) exit 1 ;;
  stops)
    mount -t ext4 /dev/vda /newroot
    read -r up rest </proc/uptime
    began=\${up%.*}\${up#*.}
    dd if=/dev/zero of=/newroot/timed bs=1M count=${timedBytes / 1024 ** 2} conv=fsync 2>/dev/null
    read -r up rest </proc/uptime
    echo "parity-took $((\${up%.*}\${up#*.} - began))0 ms"
    echo '${keptWords}' >/newroot/kept
    sync
    mount -o remount,ro /newroot
    poweroff -f
    ;;
esac
for card in /sys/class/net/e*; do
  [ -e "$card" ] || continue
  card=\${card##*/}
  ip addr add ${userCard.address} dev "$card"
  ip link set "$card" up
  ip route add default via ${userCard.gateway}
  nc -ll -p ${shellPort} -e /run/banger/bin/busybox sh 2>/dev/null &
  /echo &
done
read -r up rest </proc/uptime
began=\${up%.*}\${up#*.}
dd if=/dev/urandom of=/dev/vda bs=1M seek=8 count=${timedBytes / 1024 ** 2} conv=notrunc,fsync 2>/dev/null
read -r up rest </proc/uptime
echo "parity-took $((\${up%.*}\${up#*.} - began))0 ms"
blkdiscard -o 8388608 -l ${discardedBytes} /dev/vda 2>/dev/null
echo parity-ready

read -r size </sys/block/vda/size
grown=0
ticks=0
while :; do
  read -r now </sys/block/vda/size
  if [ "$now" != "$size" ]; then
    size=$now
    grown=$((grown + 1))
    echo "parity-size $((now * 512))"
    [ "$grown" -lt 2 ] || poweroff -f
  fi
  ticks=$((ticks + 1))
  echo "parity-tick $ticks"
  sleep 0.1
done
`;

/** Kernel and initrd of the real guest, made in a directory. Needs what the build leaves in dist/assets. */
export async function makeGuest(directory: string): Promise<{ kernel: string; initrd: string }> {
  const assets = directoryAssets(resolve('dist/assets'), join(directory, 'assets'));
  const initrd = join(directory, 'initrd');
  await copyFile(await assets.file('toolbox.cpio.zst'), initrd);
  await chmod(initrd, 0o600);
  await appendFile(initrd, await readFile(await assets.file('modules.cpio')));
  const echo = join(directory, 'echo');
  const source = join(import.meta.dirname, 'echo.c');
  execFileSync('tcc', ['-Wall', '-Werror', '-nostdlib', '-static', '-o', echo, source], { stdio: 'inherit' });
  const files = [
    { path: '/parity', content: program, mode: 0o755 },
    { path: '/echo', content: await readFile(echo), mode: 0o755 },
  ];
  await appendFile(initrd, cpioArchive(files));
  return { kernel: await assets.file('vmlinux.zst'), initrd };
}

/** What stands in for that guest in a VMM that has none: prints what it would, and ends as it would. */
export class StandInGuest {
  readonly #disk: string;
  readonly #print: (text: string) => void;
  #grown = 0;
  #ticks = 0;
  #stands = false;

  constructor(
    words: string,
    disk: string,
    { print, reset }: { readonly print: (text: string) => void; readonly reset: () => void },
  ) {
    this.#disk = disk;
    this.#print = print;
    const task = /parity=(\S+)/.exec(words)?.[1] ?? '';
    if (task === 'waits') {
      print('parity-waits\n');
      return;
    }
    this.#useDisk(task);
    if (task === 'panic') print('[    1.000000] Kernel panic - not syncing: Attempted to kill init!\n');
    if (task === 'stops') {
      setTimeout(() => this.#stop(), 100);
      return;
    }
    if (task !== 'goes-on') {
      setTimeout(reset, 100);
      return;
    }
    print('parity-ready\n');
    setInterval(() => {
      if (!this.#stands) print(`parity-tick ${++this.#ticks}\n`);
    }, 100);
  }

  set stands(value: boolean) {
    this.#stands = value;
  }

  /** It looks once in a tick, as the real one does: when who changed the disk has had its answer. */
  diskHasChanged(): void {
    setTimeout(() => this.#seeDisk(), 100);
  }

  #seeDisk(): void {
    this.#print(`parity-size ${statSync(this.#disk).size}\n`);
    if (++this.#grown < 2) return;
    this.#stands = true;
    this.#halt();
  }

  #stop(): void {
    const words = `${this.#disk}.kept`;
    writeFileSync(words, `${keptWords}\n`);
    execFileSync('debugfs', ['-w', '-R', `write ${words} kept`, this.#disk], { stdio: 'ignore' });
    rmSync(words);
    this.#halt();
  }

  #halt(): void {
    this.#print('[    9.000000] reboot: Power off not available: System halted instead\n');
  }

  #useDisk(task: string): void {
    const disk = openSync(this.#disk, 'r+');
    try {
      const sector = Buffer.alloc(512);
      readSync(disk, sector, 0, sector.length, 0);
      this.#print(`parity-disk ${sector.toString('latin1').replaceAll('\0', '').split('\n')[0]}\n`);
      writeSync(disk, `left by ${task}\n`, 0);
      if (task === 'goes-on')
        writeSync(disk, Buffer.alloc(discardedBytes, 1), 0, discardedBytes, 8 * 1024 ** 2);
    } finally {
      closeSync(disk);
    }
  }
}
