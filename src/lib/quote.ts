/** Text from outside, fit for an error message: in quotes, without control or invisible characters, shortened. */
export function quote(text: string, maxLength = 60): string {
  const characters = Array.from(text);
  const shown = characters.slice(0, maxLength).join('');
  const rest = characters.length > maxLength ? `... (${String(characters.length)} characters)` : '';
  const visible = shown
    .replaceAll(/["\\]/g, (character) => `\\${character}`)
    .replaceAll(
      /[\p{C}\p{Zl}\p{Zp}]/gu,
      (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
    );
  return `"${visible}"${rest}`;
}
