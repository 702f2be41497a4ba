/** Takes the engine's log piece by piece; returns the whole lines that are about a VM, not older than `since`. */
export function linesAbout(vmId: string, since: number): (piece: Buffer) => string[] {
  const decoder = new TextDecoder();
  let rest = '';
  return (piece) => {
    const lines = (rest + decoder.decode(piece, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    return lines.filter((line) => isAbout(line, vmId, since)).map((line) => `${line}\n`);
  };
}

function isAbout(line: string, vmId: string, since: number): boolean {
  // Most lines are about others, and need not be parsed for that.
  if (!line.includes(vmId)) return false;
  try {
    const { vm, time } = JSON.parse(line) as { readonly vm?: unknown; readonly time?: unknown };
    return vm === vmId && Date.parse(String(time)) >= since;
  } catch {
    // What a crashing engine wrote to its standard error.
    return false;
  }
}
