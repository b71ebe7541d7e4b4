/** What most likely is a secret, told by its name or its form: for what many may read. */

const NAME = /secret|passw|passphrase|token|credential|private_?key|api_?key/i;
const URL_WITH_PASSWORD = /:\/\/[^/\s:@]*:[^/\s@]+@/;

export function isSecretName(name: string): boolean {
  return NAME.test(name);
}

export function isSecret(name: string, value: string): boolean {
  return isSecretName(name) || URL_WITH_PASSWORD.test(value);
}
