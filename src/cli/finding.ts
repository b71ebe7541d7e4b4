export interface Finding {
  /** note: worth knowing, nothing is broken. */
  readonly level: 'wrong' | 'note';
  /** `etcd`, `node b`, `volume db` ... */
  readonly object: string;
  readonly what: string;
  /** What the plugin does about it, or what goes on meanwhile; empty: nothing. */
  readonly meanwhile: string;
  /** Empty: nothing. */
  readonly todo: string;
}

export function wrong(object: string, what: string, todo: string, meanwhile = ''): Finding {
  return { level: 'wrong', object, what, meanwhile, todo };
}

export function note(object: string, what: string, todo = ''): Finding {
  return { level: 'note', object, what, meanwhile: '', todo };
}
