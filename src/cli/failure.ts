/** What the program ends with. */
export const exitCodes = {
  ok: 0,
  /** What was asked for is wrong, or absent. */
  wrong: 1,
  usage: 2,
  /** The plugin cannot be reached. */
  unreachable: 3,
} as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** Ends a command with a sentence that names the object, the cause and the way out. */
export class Failure extends Error {
  readonly exitCode: ExitCode;

  constructor(exitCode: ExitCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'Failure';
    this.exitCode = exitCode;
  }
}

/** Nobody knows whether what was asked for is done. */
export class LostAnswer extends Failure {
  constructor(why: Failure) {
    const text = `${why.message}. What was asked for may be done all the same: look before you ask again`;
    super(why.exitCode, text, { cause: why });
    this.name = 'LostAnswer';
  }
}
