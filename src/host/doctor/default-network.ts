import { fail, pass, type CheckResult, type Subject } from './check.ts';

const defaultNetwork: Subject = { id: 'default-network', title: 'Network' };

/**
 * The network of VMs that nobody chooses one for: `user` unless the configuration says otherwise, since every host allows
 * that one. `bridges` is what was found out of those; their subject's id is `bridges`.
 */
export function checkDefaultNetwork(network: string, bridges: readonly CheckResult[]): CheckResult {
  if (network === 'user')
    return pass(defaultNetwork, 'VMs are on "user", which takes no rights; another with --network NAME');
  const what = `VMs are on "${network}", as the configuration says`;
  if (network === 'none') return pass(defaultNetwork, what);
  const found = bridges.find(({ id }) => id === 'bridges');
  if (found?.status === 'pass') return pass(defaultNetwork, what);
  return fail(
    defaultNetwork,
    `${what}, which this host does not allow: ${found?.evidence ?? 'there are no bridges'}`,
    found?.fix ??
      'Have the host set up: sudo banger host setup; or set in the configuration: vm.network = "user"',
  );
}
