/** Networks that need no row: the VMM's own, and none at all. */
export const builtInNetworks = ['user', 'none'] as const;
