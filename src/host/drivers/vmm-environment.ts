/** What VMMs and the libraries they are made of look at. */
const passedOn = ['PATH', 'HOME', 'TMPDIR', 'LANG', 'LC_ALL', 'LD_LIBRARY_PATH', 'QEMU_MODULE_DIR'];

/**
 * The environment of a VMM. It lives long and deals with a guest that may be hostile: tokens and passwords of the
 * shell that happened to start the engine are none of its business.
 */
export function vmmEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => passedOn.includes(name)));
}
