import type { Group, Outcome, Verdict } from './case.js';

export interface Report {
  add(outcome: Outcome): void;
  /** Prints the verdict. Answers whether nothing failed. */
  end(socketPath: string, complete: boolean): boolean;
}

type Write = (text: string) => void;

const verdicts: readonly Verdict[] = ['passed', 'failed', 'skipped'];

function conclude(outcomes: readonly Outcome[], socketPath: string, complete: boolean): string {
  const of = (verdict: Verdict) => outcomes.filter((outcome) => outcome.verdict === verdict).length;
  const counts = verdicts.map((verdict) => `${String(of(verdict))} ${verdict}`).join(', ');
  const conforms = of('failed') === 0 ? 'conforms' : 'does NOT conform';
  return `verdict: ${counts}: ${complete ? `the driver at ${socketPath} ${conforms}` : 'interrupted'}`;
}

/** One row per case as it ends; columns are as wide as the cases to come need. */
export function tableReport(groups: readonly Group[], write: Write): Report {
  const cases = groups.flatMap((group) => [...group.cases, ...(group.after ?? [])]);
  const width = (texts: readonly string[]) => Math.max(...texts.map((text) => text.length));
  const widths = [
    7,
    width(['leftovers', ...groups.map(({ name }) => name)]),
    width(['nothing is left of the volumes that were made', ...cases.map(({ name }) => name)]),
    width(['all of the above', ...cases.map(({ why }) => why)]),
  ];
  const row = (cells: readonly string[]) => {
    write(
      `${cells
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd()}\n`,
    );
  };
  const outcomes: Outcome[] = [];
  row(['verdict', 'group', 'case', 'why', 'detail: sent -> received']);
  return {
    add(outcome) {
      outcomes.push(outcome);
      row([outcome.verdict, outcome.group, outcome.case, outcome.why, outcome.detail]);
    },
    end(socketPath, complete) {
      write(`${conclude(outcomes, socketPath, complete)}\n`);
      return outcomes.every(({ verdict }) => verdict !== 'failed');
    },
  };
}

export function jsonReport(write: Write): Report {
  const outcomes: Outcome[] = [];
  return {
    add: (outcome) => void outcomes.push(outcome),
    end(socketPath, complete) {
      const verdict = conclude(outcomes, socketPath, complete);
      write(`${JSON.stringify({ verdict, complete, cases: outcomes }, null, 2)}\n`);
      return outcomes.every((outcome) => outcome.verdict !== 'failed');
    },
  };
}
