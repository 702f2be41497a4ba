import type { Method, ParamsOf } from '../../src/engine/rpc/method.ts';
import { killEngine, type CrashLab } from './crash-lab.ts';
import type { HostWorld } from './host-world.ts';

/** What a user was doing when the engine died. */
export interface Scenario {
  readonly name: string;
  /** Brings the VMs to the state in which it begins */
  readonly ready: () => Promise<void>;
  /** Does it. What has to be done before failpoints count is done before `arm` is called. */
  readonly act: (arm: () => void) => Promise<unknown>;
  /** Failures that bring about what is looked at, such as the undoing of steps: points before them do not count */
  readonly provoked?: { readonly failpoints: string; readonly after: string };
  readonly counts?: (point: string) => boolean;
  /** Says what has become of it, after the next engine has started; throws when that is not right */
  readonly outcome: (point: string) => Promise<string>;
}

export interface MatrixRow {
  readonly scenario: string;
  readonly point: string;
  readonly outcome: string;
  /** What was wrong */
  readonly trouble: readonly string[];
}

/**
 * Kills the engine at every point that a scenario passes, or at those that are taken, starts it again, and looks at the
 * world. Which points there are, a run without a crash tells.
 */
export async function* crashEverywhere(
  lab: CrashLab,
  world: HostWorld,
  scenario: Scenario,
  isTaken: (index: number) => boolean = () => true,
): AsyncGenerator<MatrixRow> {
  const points = await pointsOf(lab, scenario);
  for (const point of points.filter((_, index) => isTaken(index))) {
    const row = { scenario: scenario.name, point };
    try {
      await crashAt(lab, scenario, point);
      lab.arm();
      const engine = await lab.quietEngine();
      const trouble = await world.findTrouble(engine);
      yield { ...row, outcome: await scenario.outcome(point), trouble };
    } catch (error) {
      lab.arm();
      yield { ...row, outcome: 'wrong', trouble: [error instanceof Error ? error.message : String(error)] };
    }
  }
}

async function pointsOf(lab: CrashLab, scenario: Scenario): Promise<string[]> {
  const { provoked, counts = () => true } = scenario;
  await scenario.ready();
  await lab.quietEngine();
  lab.arm();
  await scenario
    .act(() => lab.arm(provoked?.failpoints))
    .catch((error: unknown) => {
      if (!provoked) throw error;
    });
  await lab.quietEngine();
  const passed = lab.trace();
  const first = provoked ? passed.indexOf(provoked.after) + 1 : 0;
  const points = passed.slice(first).filter((point) => !/#([3-9]|\d\d)/.test(point) && counts(point));
  if (points.length === 0) throw new Error(`"${scenario.name}" passes no points`);
  return points;
}

async function crashAt(lab: CrashLab, scenario: Scenario, point: string): Promise<void> {
  await scenario.ready();
  const engine = await lab.quietEngine();
  lab.arm();
  const arm = (): void => lab.arm(`${scenario.provoked?.failpoints ?? ''}\n${point}=kill`);
  const answer = await scenario.act(arm).then(
    () => 'it was done',
    (error: Error) => error.message,
  );
  if (lab.trace().at(-1) === point) return;
  await killEngine(engine).catch(() => undefined);
  throw new Error(`the point was not reached: ${answer}`);
}

/** The rows as a table, for people. */
export function matrixTable(rows: readonly MatrixRow[]): string {
  const cells = rows.map((row) => [
    row.scenario,
    row.point,
    row.outcome,
    row.trouble.join('; ') || 'nothing',
  ]);
  const lines = [['while', 'killed at', 'after the next start', 'left over'], ...cells];
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  const text = ([...line]: string[]): string =>
    `| ${line.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`;
  const ruler = `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`;
  return [text(lines[0]!), ruler, ...lines.slice(1).map(text)].join('\n');
}

/** Calls a method, armed from its start on. */
export function acting<M extends Method>(lab: CrashLab, method: M, params: ParamsOf<M>): Scenario['act'] {
  return (arm) => {
    arm();
    return lab.call(method, params);
  };
}
