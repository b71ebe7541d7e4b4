import { StringDecoder } from 'node:string_decoder';

/** No line of use here is longer: tokens and IDs. */
const MOST_CHARACTERS = 65_536;

/** The first line of it, without its end and what is blank about it; null at the end of input, or beyond 64 Ki characters. */
export async function readLine(input: AsyncIterable<Buffer | string>): Promise<string | null> {
  const decoder = new StringDecoder('utf8');
  let text = '';
  for await (const part of input) {
    text += typeof part === 'string' ? part : decoder.write(part);
    if (text.includes('\n') || text.length > MOST_CHARACTERS) break;
  }
  const [line = ''] = text.split('\n', 1);
  return line.trim() === '' || line.length > MOST_CHARACTERS ? null : line.trim();
}
