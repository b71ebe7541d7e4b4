import { StringDecoder } from 'node:string_decoder';

export interface LineSplitter {
  /** Takes the next bytes of the stream; calls onLine for each line they complete. */
  push(chunk: Buffer): void;
}

/**
 * Cuts a byte stream into lines at `\n`. A chunk may end anywhere, also inside a UTF-8 character. A line longer
 * than maxLineChars is thrown away whole (memory stays bounded) and reported once by onOverlong.
 */
export function createLineSplitter(options: {
  maxLineChars: number;
  onLine: (line: string) => void;
  onOverlong: () => void;
}): LineSplitter {
  const decoder = new StringDecoder('utf8');
  // Pieces are joined only when the line is complete: appending to one string is quadratic when it is scanned.
  let pieces: string[] = [];
  let chars = 0;
  let skipping = false;

  function add(piece: string): void {
    if (skipping || piece === '') return;
    chars += piece.length;
    if (chars > options.maxLineChars) {
      pieces = [];
      skipping = true;
      options.onOverlong();
      return;
    }
    pieces.push(piece);
  }

  function finish(): void {
    const line = pieces.join('');
    const complete = !skipping;
    pieces = [];
    chars = 0;
    skipping = false;
    if (complete && line.trim() !== '') options.onLine(line);
  }

  return {
    push(chunk) {
      const text = decoder.write(chunk);
      let from = 0;
      for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', from)) {
        add(text.slice(from, at));
        finish();
        from = at + 1;
      }
      add(text.slice(from));
    },
  };
}
