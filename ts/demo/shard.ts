import { readFile, writeFile } from 'node:fs/promises';

/** Bytes of a safetensors file before its header: the header's length. */
const PREFIX = 8;

/** Where a tensor's records lie in a shard's bytes. */
interface Field {
  readonly start: number;
  readonly recordBytes: number;
  readonly records: number;
}

/** A shard of a cache as bytes, for damaging copies of it. */
export class Shard {
  readonly #path: string;
  readonly #bytes: Buffer;

  private constructor(path: string, bytes: Buffer) {
    this.#path = path;
    this.#bytes = bytes;
  }

  static async read(path: string): Promise<Shard> {
    return new Shard(path, await readFile(path));
  }

  /** One record of a tensor, sharing the shard's memory. */
  record(name: string, index: number): Buffer {
    const { start, recordBytes, records } = this.#field(name);
    if (index >= records) throw new RangeError(`${this.#path} has ${records} records of ${name}`);
    return this.#bytes.subarray(start + index * recordBytes, start + (index + 1) * recordBytes);
  }

  /** Number of records. */
  records(name: string): number {
    return this.#field(name).records;
  }

  /** Writes the bytes back. */
  async save(): Promise<void> {
    await writeFile(this.#path, this.#bytes);
  }

  #field(name: string): Field {
    const headerBytes = Number(this.#bytes.readBigUInt64LE());
    const header = JSON.parse(this.#bytes.toString('utf8', PREFIX, PREFIX + headerBytes)) as Record<
      string,
      { shape: number[]; data_offsets: [number, number] }
    >;
    const tensor = header[name];
    if (tensor === undefined) throw new RangeError(`${this.#path} has no tensor ${name}`);
    const [from, to] = tensor.data_offsets;
    const records = tensor.shape[0] ?? 0;
    return { start: PREFIX + headerBytes + from, recordBytes: (to - from) / records, records };
  }
}
