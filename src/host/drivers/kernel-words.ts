/**
 * The kernel command line of a guest, whatever runs it. `ofMachine`: words for the machine that this VMM makes;
 * `ofVm`: for this VM.
 */
export function kernelCommandLine(ofMachine: readonly string[], ofVm: readonly string[] = []): string {
  return [
    'console=ttyS0',
    'quiet',
    ...ofMachine,
    'panic=-1',
    'random.trust_cpu=on',
    // An image's udev must not rename an interface that is up.
    'net.ifnames=0',
    // The kernel's self-tests of its ciphers are more than half of an emulated boot.
    'cryptomgr.notests',
    // systemd would wait 90 s for a serial port that udev announces, in images without udev, to log in nobody.
    'systemd.getty_auto=no',
    ...ofVm,
  ].join(' ');
}

/**
 * For machines without the clock chip of a PC, whose guests have the time from KVM. The kernel's driver asks for that
 * chip all the same, and waits for a whole second until it answers, in every boot.
 */
export const noClockChip = 'initcall_blacklist=cmos_init';
