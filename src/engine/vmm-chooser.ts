import { mkdirSync } from 'node:fs';
import { exec } from '../host/exec.ts';
import { ensurePrivateDirectory } from '../host/files.ts';
import {
  cachedKvmProbe,
  deviceRefusal,
  kvmWorks,
  probedFirecracker,
  probedQemu,
  type KvmVerdict,
  type ProbedVmm,
} from '../host/kvm-probe.ts';
import { chooseVmm, firecrackerVerdict, type FirecrackerVerdict, type VmmNeeds } from '../host/vmm-choice.ts';
import type { Config } from '../state/config.ts';
import type { EngineContext } from './context.ts';
import { shared } from './once.ts';

export interface ChooserInput extends Pick<EngineContext, 'layout' | 'assets' | 'log'> {
  /** `/dev/kvm` unless given */
  readonly device?: string;
  /** How long a guest may take to boot; 3 s unless given */
  readonly timeoutMs?: number;
}

/** Chooses by the configuration as it is now. What it depends on is asked each time, and a boot is remembered. */
export function vmmChooser(
  { layout, assets, log, device, timeoutMs }: ChooserInput,
  config: () => Config,
): Pick<EngineContext, 'chooseVmm' | 'wantsRawDisk'> {
  const guest = {
    exec,
    guestId: assets.buildId,
    kernel: () => assets.file('vmlinux.zst'),
    initrd: () => assets.file('toolbox.cpio.zst'),
    // Not where temporary files are: that was the shell's in which we were started, and may have gone with it. Where VMs'
    // own jails are, since another filesystem may have no devices, or run nothing.
    temporaryDirectory: layout.vmsDirectory,
    socketDirectory: layout.runtimeDirectory,
    device,
    timeoutMs,
  };
  const cachedProbe = (vmm: ProbedVmm, cacheFile: string): Promise<KvmVerdict> => {
    mkdirSync(layout.vmsDirectory, { recursive: true, mode: 0o700 });
    ensurePrivateDirectory(layout.runtimeDirectory);
    return cachedKvmProbe({ ...guest, vmm }, cacheFile);
  };
  const probing = shared<KvmVerdict>();
  const proven = new Set<string>();
  let lastTold: string | undefined;
  const qemu = async (program: string): Promise<KvmVerdict> => {
    const verdict =
      deviceRefusal(device) ??
      (proven.has(program)
        ? kvmWorks
        : await probing(program, () => cachedProbe(probedQemu(program), layout.kvmProbeFile)));
    // Of what works nothing is asked again; what does not may the next time.
    if (verdict.works) proven.add(program);
    if (verdict.reason !== lastTold) log('info', `KVM: ${verdict.reason}`, { works: verdict.works });
    lastTold = verdict.reason;
    return verdict;
  };
  const firecracker = (needs: VmmNeeds): Promise<FirecrackerVerdict> => {
    const { firecrackerProgram, firecrackerJailer } = config();
    return firecrackerVerdict({
      exec,
      vmm: probedFirecracker(firecrackerProgram, firecrackerJailer),
      probe: (vmm) =>
        probing([vmm.title, vmm.program, vmm.confinement].join(' '), () =>
          cachedProbe(vmm, layout.firecrackerProbeFile),
        ),
      jailer: firecrackerJailer,
      needs,
      isInsistedOn: config().vmmDriver === 'firecracker',
    });
  };
  return {
    chooseVmm: (needs) => {
      const { vmmDriver, accel, qemuProgram } = config();
      const verdicts = { firecracker: () => firecracker(needs), qemu: () => qemu(qemuProgram) };
      return chooseVmm({ driver: vmmDriver, accel }, verdicts);
    },
    wantsRawDisk: async (needs) => {
      const { vmmDriver, accel } = config();
      if (vmmDriver !== 'auto') return vmmDriver === 'firecracker';
      return accel !== 'tcg' && (await firecracker({ ...needs, disk: 'raw' })).works;
    },
  };
}
