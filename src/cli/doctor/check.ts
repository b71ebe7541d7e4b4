export interface Check {
  readonly name: string;
  readonly state: 'ok' | 'warn' | 'fail';
  /** What was found. */
  readonly found: string;
  /** What that means for volumes; empty: all is well. */
  readonly means: string;
  readonly todo: string;
}

export function ok(name: string, found: string): Check {
  return { name, state: 'ok', found, means: '', todo: '' };
}

export function warn(name: string, found: string, means: string, todo: string): Check {
  return { name, state: 'warn', found, means, todo };
}

export function fail(name: string, found: string, means: string, todo: string): Check {
  return { name, state: 'fail', found, means, todo };
}
