// Flow logs that are imported together: several files as one upload, a tar archive (POSIX.1-1988 ustar; a name over 100
// bytes as GNU tar writes it). It is made of headers and the files themselves: the browser reads them as it sends them.

const BLOCK = 512;
const NAME_BYTES = 100;
/** What the controller takes at once. */
export const MOST_BYTES = 2 ** 31;
export const MOST_FILES = 1000;

export interface Packed {
  name: string;
  /** Bytes of the upload when the whole of this file is sent. */
  end: number;
}

interface Named {
  name: string;
  size: number;
}

const room = (size: number): number => BLOCK + Math.ceil(size / BLOCK) * BLOCK;
/** For its two headers, its name and the end, whatever the name is. */
const roomOf = (file: Named): number => room(file.size) + 4 * BLOCK;

/** Files in order, as few uploads as can be: all of them in one, unless that is more than is taken at once. */
export function batched<T extends Named>(files: readonly T[], most = MOST_BYTES, mostFiles = MOST_FILES): T[][] {
  const found: T[][] = [];
  let size = Infinity;
  for (const file of files) {
    size += roomOf(file);
    const last = found.at(-1);
    if (last && size <= most && last.length < mostFiles) last.push(file);
    else (found.push([file]), (size = roomOf(file)));
  }
  return found;
}

/** Names as an archive takes them: none hidden, and the second of one name in a folder `2`. */
export function named(files: readonly Named[]): string[] {
  const seen = new Map<string, number>();
  return files.map(({ name }) => {
    const plain = name.replace(/^\.+/, "_").replace(/[\p{C}\p{Z}]/gu, (one) => (one === " " ? one : "_")).replaceAll("/", "_") || "_";
    const times = (seen.get(plain) ?? 0) + 1;
    seen.set(plain, times);
    return times > 1 ? `${times}/${plain}` : plain;
  });
}

export function archiveOf(files: readonly File[]): { content: Blob; packed: Packed[] } {
  const names = named(files);
  const parts: BlobPart[] = [];
  const packed: Packed[] = [];
  let size = 0;
  const put = (part: Uint8Array<ArrayBuffer> | File, length: number): void => {
    const rest = (BLOCK - (length % BLOCK)) % BLOCK;
    parts.push(part, new Uint8Array(rest));
    size += length + rest;
  };
  files.forEach((file, index) => {
    const name = new TextEncoder().encode(names[index]);
    if (name.length > NAME_BYTES) {
      put(header(new TextEncoder().encode("././@LongLink"), name.length + 1, "L"), BLOCK);
      put(new Uint8Array([...name, 0]), name.length + 1);
    }
    put(header(name.slice(0, NAME_BYTES), file.size, "0"), BLOCK);
    put(file, file.size);
    packed.push({ name: names[index] ?? "", end: size });
  });
  parts.push(new Uint8Array(2 * BLOCK));
  return { content: new Blob(parts), packed };
}

function header(name: Uint8Array, size: number, type: string): Uint8Array<ArrayBuffer> {
  const block = new Uint8Array(BLOCK);
  const text = (at: number, word: string): void => block.set(new TextEncoder().encode(word), at);
  const octal = (n: number, digits: number): string => n.toString(8).padStart(digits, "0");
  block.set(name);
  text(100, `${octal(0o600, 7)}\0${octal(0, 7)}\0${octal(0, 7)}\0${octal(size, 11)}\0${octal(0, 11)}\0        ${type}`);
  text(257, "ustar\x0000");
  text(148, `${octal(block.reduce((sum, byte) => sum + byte, 0), 6)}\0 `);
  return block;
}
