import { tmpdir } from 'node:os';
import { exec } from '../host/exec.ts';
import { cachedKvmProbe, probedFirecracker, probedQemu } from '../host/kvm-probe.ts';
import { ensurePrivateDirectory } from '../host/files.ts';
import { chooseVmm, firecrackerVerdict, type FirecrackerVerdict, type VmmNeeds } from '../host/vmm-choice.ts';
import type { Config } from '../state/config.ts';
import type { EngineContext } from './context.ts';
import { oncePer } from './once.ts';

/** Chooses by the configuration as it is now, and asks each boot probe once per engine and program. */
export function vmmChooser(
  { layout, assets, log }: Pick<EngineContext, 'layout' | 'assets' | 'log'>,
  config: () => Config,
): Pick<EngineContext, 'chooseVmm' | 'wantsRawDisk'> {
  const guest = {
    exec,
    guestId: assets.buildId,
    kernel: () => assets.file('vmlinux.zst'),
    initrd: () => assets.file('toolbox.cpio.zst'),
    temporaryDirectory: tmpdir(),
  };
  const qemu = oncePer(async (program: string) => {
    const verdict = await cachedKvmProbe({ ...guest, vmm: probedQemu(program) }, layout.kvmProbeFile);
    log('info', `KVM: ${verdict.reason}`, { works: verdict.works });
    return verdict;
  });
  const firecracker = (needs: VmmNeeds): Promise<FirecrackerVerdict> => {
    const { firecrackerProgram, firecrackerJailer } = config();
    ensurePrivateDirectory(layout.scratchDirectory);
    // Where VMs' own jails are: a filesystem for temporary files may have no devices, or run nothing.
    const place = { temporaryDirectory: layout.scratchDirectory, socketDirectory: tmpdir() };
    return firecrackerVerdict({
      exec,
      vmm: probedFirecracker(firecrackerProgram, firecrackerJailer),
      probe: (vmm) => cachedKvmProbe({ ...guest, ...place, vmm }, layout.firecrackerProbeFile),
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
    wantsRawDisk: async (network) => {
      const { vmmDriver, accel } = config();
      if (vmmDriver !== 'auto') return vmmDriver === 'firecracker';
      return accel !== 'tcg' && (await firecracker({ network, disk: 'raw' })).works;
    },
  };
}
