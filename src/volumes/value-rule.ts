/** What a value may be: a test, and the words that tell a user. */
export interface ValueRule {
  readonly allowed: string;
  accepts(value: string): boolean;
}

export function oneOf(...values: readonly string[]): ValueRule {
  return { allowed: values.join('|'), accepts: (value) => values.includes(value) };
}

export function wholeNumber(min: number, max: number): ValueRule {
  return {
    allowed: `${String(min)} to ${String(max)}`,
    accepts: (value) => /^(0|[1-9]\d{0,14})$/.test(value) && Number(value) >= min && Number(value) <= max,
  };
}

export function matching(pattern: RegExp, allowed: string): ValueRule {
  return { allowed, accepts: (value) => pattern.test(value) };
}

/** Letters that no tool takes for an option, a path or a list. */
export function label(maxLength: number): ValueRule {
  const pattern = new RegExp(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,${String(maxLength - 1)}}$`);
  return matching(pattern, `a label of at most ${String(maxLength)} letters, digits, "_", "." and "-"`);
}

/** Comma-separated names, each at most once, each optionally with `^` in front (switch off). */
export function features(...names: readonly string[]): ValueRule {
  return {
    allowed: `a list (comma; "^" switches off) of ${names.join(' ')}`,
    accepts: (value) => {
      const given = value.split(',').map((item) => (item.startsWith('^') ? item.slice(1) : item));
      return new Set(given).size === given.length && given.every((item) => names.includes(item));
    },
  };
}

/** Comma-separated `key=value`, each key at most once. */
export function assignments(rules: Readonly<Record<string, ValueRule>>): ValueRule {
  const known = new Map(Object.entries(rules));
  return {
    allowed: Array.from(known, ([key, rule]) => `${key}=${rule.allowed}`).join(', '),
    accepts: (value) => {
      const pairs = value.split(',').map((pair) => /^([a-z0-9]+)=([^=]+)$/.exec(pair));
      const keys = pairs.map((pair) => pair?.[1] ?? '');
      return (
        new Set(keys).size === keys.length &&
        pairs.every((pair) => known.get(pair?.[1] ?? '')?.accepts(pair?.[2] ?? '') ?? false)
      );
    },
  };
}
