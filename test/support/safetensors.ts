/** A tensor of f32 values. */
export interface TestTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** A safetensors file: the header's length as u64, the header as JSON, the values. */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, TestTensor>,
  metadata?: Readonly<Record<string, string>>,
): Uint8Array {
  const header: Record<string, object> = metadata === undefined ? {} : { __metadata__: metadata };
  let offset = 0;
  for (const [name, { shape, values }] of tensors) {
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + values.byteLength] };
    offset += values.byteLength;
  }
  const json = Buffer.from(JSON.stringify(header).padEnd(8), 'utf8');
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const bytes = [...tensors.values()].map(({ values }) =>
    Buffer.from(values.buffer, values.byteOffset, values.byteLength),
  );
  return Buffer.concat([length, json, ...bytes]);
}

/** The tensors of a safetensors file that holds f32 alone. */
export function decodeSafetensors(file: Buffer): Map<string, TestTensor> {
  const start = 8 + Number(file.readBigUInt64LE());
  const header = JSON.parse(file.subarray(8, start).toString('utf8')) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, TestTensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const { dtype, shape, data_offsets } = entry;
    const [from, to] = data_offsets;
    if (dtype !== 'F32') throw new Error(`${name} is ${dtype}`);
    const values = new Float32Array(Uint8Array.from(file.subarray(start + from, start + to)).buffer);
    tensors.set(name, { shape, values });
  }
  return tensors;
}

/** A tensor of any type as it lies in a file. */
export interface StoredTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  /** A view: what is written to it, is written to the file's bytes. */
  readonly bytes: Buffer;
}

/** Every tensor of a safetensors file, by the format's specification and not by the code under test. */
export function viewSafetensors(file: Buffer): Map<string, StoredTensor> {
  const start = 8 + Number(file.readBigUInt64LE());
  const header = JSON.parse(file.subarray(8, start).toString('utf8')) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const entries = Object.entries(header).filter(([name]) => name !== '__metadata__');
  return new Map(
    entries.map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [from, to],
        },
      ]) => [name, { dtype, shape, bytes: file.subarray(start + from, start + to) }],
    ),
  );
}

/** The numbers of an f16 tensor. */
export function halves({ dtype, bytes }: StoredTensor): number[] {
  if (dtype !== 'F16') throw new Error(`it is ${dtype}`);
  return Array.from({ length: bytes.length / 2 }, (_, index) => {
    const bits = bytes.readUInt16LE(2 * index);
    const [exponent, fraction] = [(bits >> 10) & 0x1f, bits & 0x3ff];
    const magnitude = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
    return bits & 0x8000 ? -magnitude : magnitude;
  });
}
