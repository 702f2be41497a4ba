/**
 * A vitest reporter for scripts/test.sh: writes to $BANGER_TEST_SUMMARY what a shell can add up.
 *
 * One line per test: `passed`, `failed` or `skipped`, its name, and why it failed or was skipped, separated by tabs.
 */
import { writeFileSync } from 'node:fs';
import type { Reporter, TestCase, TestModule } from 'vitest/node';

export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const lines = modules.flatMap((module) => [...moduleLines(module)]);
    lines.push(...unhandledErrors.map((error) => line('failed', `unhandled error: ${String(error)}`)));
    const path = process.env['BANGER_TEST_SUMMARY'];
    if (path !== undefined) writeFileSync(path, lines.map((text) => `${text}\n`).join(''));
  }
}

function* moduleLines(module: TestModule): Iterable<string> {
  // A file that cannot be loaded, or whose hooks fail, has no failed test to show for it.
  const hasFailedTest = [...module.children.allTests('failed')].length > 0;
  if (module.state() === 'failed' && !hasFailedTest)
    yield line('failed', module.relativeModuleId, errorsIn(module.errors()));

  for (const test of module.children.allTests()) {
    const result = test.result();
    switch (result.state) {
      case 'passed':
        yield line('passed', fullName(test));
        break;
      case 'failed':
        yield line('failed', fullName(test), errorsIn(result.errors));
        break;
      // Neither passed nor left out on purpose.
      case 'pending':
        yield line('failed', fullName(test), 'it was interrupted');
        break;
      case 'skipped':
        if (!isFilteredOut(test))
          yield line('skipped', fullName(test), result.note ?? reasonIn(test) ?? 'no reason given');
    }
  }
}

/** What was wrong and where, as far as it fits beside the name. */
function errorsIn(errors: readonly { readonly message: string; readonly stack?: string }[]): string {
  const texts = errors.map(({ message, stack = '' }) => {
    const place = /\S+\.test\.ts:\d+/.exec(stack)?.[0];
    return `${message.slice(0, longestError)}${place === undefined ? '' : ` (${place.split('/').at(-1)})`}`;
  });
  return texts.join('; ') || 'no error was told';
}

const longestError = 600;

/** With -k, vitest counts every test whose name does not match as skipped. */
function isFilteredOut(test: TestCase): boolean {
  const pattern = test.project.globalConfig.testNamePattern ?? test.project.config.testNamePattern;
  return pattern !== undefined && !pattern.test(test.fullName);
}

/** Of tests that are skipped together, the title they share says why: `(skipped: …)`. */
function reasonIn(test: TestCase): string | undefined {
  return /\(skipped: (.*?)\)(?: >|$)/.exec(test.fullName)?.[1];
}

function fullName(test: TestCase): string {
  return `${test.module.relativeModuleId}: ${test.fullName}`;
}

function line(...fields: readonly string[]): string {
  return fields.map((field) => field.replaceAll(/[\t\n]+/g, ' ')).join('\t');
}
