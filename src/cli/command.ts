/** What a command is: a row of the table in commands.ts, from which parsing, help and completion follow. */
import type { AdminClient } from './admin-client.js';
import type { Engine } from './engine-client.js';
import type { ExitCode } from './failure.js';

export interface Command {
  /** `volume ls` is two words. */
  readonly words: readonly string[];
  /** One line, for lists. */
  readonly summary: string;
  /** More lines, for its own help. */
  readonly details?: string;
  readonly names?: Names;
  readonly options: Readonly<Record<string, Option>>;
  /** Loaded when it is called: the engine asks for the metadata of every plugin whenever somebody needs help. */
  load(): Promise<Run>;
}

export type Run = (call: Call, around: Surroundings) => Promise<ExitCode>;

/** What follows the words. */
export interface Names {
  /** In capitals, for the help. */
  readonly label: string;
  readonly atLeast: number;
  readonly atMost: number;
  readonly completes: Completes;
  /** What completes is the first name; those behind it are something else. */
  readonly firstOnly?: true;
}

/** Names that are asked from the plugin, or a fixed list. */
export type Completes = 'volumes' | 'nodes' | 'tokens' | 'backups' | 'nothing' | readonly string[];

export interface Option {
  /** What it takes, in capitals, for the help; without one it is a switch. */
  readonly value?: string;
  readonly short?: string;
  readonly help: string;
  readonly repeats?: boolean;
  /** The command cannot do without. */
  readonly required?: true;
  readonly completes?: Completes;
}

/** One use of a command. */
export interface Call {
  readonly names: readonly string[];
  /** One JSON document, or a line of JSON for each event, instead of a table. */
  readonly json: boolean;
  text(option: string): string | undefined;
  list(option: string): readonly string[];
  has(option: string): boolean;
}

/** What a person types, or a program sends. */
export interface Input {
  /** A person can be asked. */
  readonly isTerminal: boolean;
  /** The first line, without its end; null when there is none. */
  readLine(): Promise<string | null>;
}

/** What a command may touch. */
export interface Surroundings {
  /** Of this program. */
  readonly version: string;
  readonly isRoot: boolean;
  readonly socketPath: string;
  readonly admin: AdminClient;
  /** The engine that the docker command talks to. */
  readonly engine: Engine;
  readonly input: Input;
  print(text: string): void;
  complain(text: string): void;
}
