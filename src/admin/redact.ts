import { isSecretName } from '../lib/secrets.js';

/** The same JSON value with whatever stands under a telling name blanked out, at any depth. */
export function redact(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(redact);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [name, isSecretName(name) ? '[redacted]' : redact(inner)]),
  );
}

/** A record's text as JSON without secrets. What is not JSON is withheld: nothing tells what it holds. */
export function redactText(text: string): unknown {
  try {
    return redact(JSON.parse(text));
  } catch {
    return '[not JSON]';
  }
}
