/** Which positions of a log every lane holds: what may be confirmed to it. Pure but for its own state. */
export class LanePositions {
  private readonly lanes: number;
  private readonly streams = new Map<number, (bigint | null)[]>();

  constructor(lanes: number, start: ReadonlyMap<number, bigint>) {
    this.lanes = lanes;
    for (const [stream, position] of start)
      this.streams.set(stream, new Array<bigint | null>(lanes).fill(position));
  }

  /** Notes what a lane holds; returns the position that all lanes hold when it has grown, else null. */
  note(lane: number, stream: number, position: bigint): bigint | null {
    let held = this.streams.get(stream);
    if (held === undefined)
      this.streams.set(stream, (held = new Array<bigint | null>(this.lanes).fill(null)));
    const before = least(held);
    held[lane] = position;
    const after = least(held);
    return after !== null && (before === null || after > before) ? after : null;
  }
}

function least(held: readonly (bigint | null)[]): bigint | null {
  let result: bigint | null = null;
  for (const position of held) {
    if (position === null) return null;
    if (result === null || position < result) result = position;
  }
  return result;
}
