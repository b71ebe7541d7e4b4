/**
 * A host whose NODE_ID was changed while records still know it by its former name. Under the new one it would neither
 * serve nor attach its own volumes, and nobody would say why: so it shows them and refuses the rest, with the way back.
 */
import { AppError } from '../errors.js';
import { quote } from '../lib/quote.js';
import type { VolumeRecords } from './volume-records.js';
import type { VolumeService, VolumeView } from './volume-service.js';

export interface Rename {
  readonly former: string;
  readonly node: string;
  /** Whether the data plane of any volume is on this host: asked when the records are not known as a whole. */
  readonly hasDataPlane: () => Promise<boolean>;
}

const NAMES_SHOWN = 5;

/** Null when nothing here depends on the former name any more. */
export async function refuseRename(
  records: Pick<VolumeRecords, 'complete' | 'volumesOn'>,
  { former, node, hasDataPlane }: Rename,
): Promise<AppError | null> {
  const names = records.volumesOn(former);
  if (names.length === 0 && (records.complete || !(await hasDataPlane()))) return null;
  const shown = names.slice(0, NAMES_SHOWN).join(', ');
  const more = names.length > NAMES_SHOWN ? `, and ${String(names.length - NAMES_SHOWN)} more` : '';
  const which = names.length === 0 ? 'volumes' : `volumes (${shown}${more})`;
  return new AppError(
    'conflict',
    `NODE_ID says ${quote(node)}, but the records of this host's ${which} know it as ${quote(former)}: set it back with ` +
      `docker plugin disable -f, docker plugin set NODE_ID=${former} and docker plugin enable; or remove these volumes ` +
      'under the former name first',
  );
}

export class RenamedService implements VolumeService {
  readonly #reads: Pick<VolumeService, 'get' | 'list'>;
  readonly #refusal: AppError;

  constructor(reads: Pick<VolumeService, 'get' | 'list'>, refusal: AppError) {
    this.#reads = reads;
    this.#refusal = refusal;
  }

  create(): Promise<never> {
    return Promise.reject(this.#refusal);
  }

  remove(): Promise<never> {
    return Promise.reject(this.#refusal);
  }

  mount(): Promise<never> {
    return Promise.reject(this.#refusal);
  }

  unmount(): Promise<never> {
    return Promise.reject(this.#refusal);
  }

  async get(...call: Parameters<VolumeService['get']>): Promise<VolumeView> {
    return this.#told(await this.#reads.get(...call));
  }

  list(): readonly VolumeView[] {
    return this.#reads.list().map((view) => this.#told(view));
  }

  #told(view: VolumeView): VolumeView {
    return { ...view, status: { ...view.status, error: this.#refusal.message } };
  }
}
