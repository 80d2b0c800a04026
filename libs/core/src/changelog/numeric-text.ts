/** Postgres's binary numeric as decimal text, digit for digit, trailing zeros included. Pure. */
const signs = { negative: 0x4000, nan: 0xc000, infinity: 0xd000, negativeInfinity: 0xf000 } as const;
const headerBytes = 8;
const group = 4;

/** Groups of four digits: int16 count, int16 place of the first group, uint16 sign, int16 digits after the point, then the groups. */
export function numericText(value: Buffer): string {
  const count = value.readInt16BE(0);
  const weight = value.readInt16BE(2);
  const sign = value.readUInt16BE(4);
  const scale = value.readInt16BE(6);
  if (sign === signs.nan) return 'NaN';
  if (sign === signs.infinity) return 'Infinity';
  if (sign === signs.negativeInfinity) return '-Infinity';
  const at = (place: number): string => {
    const index = weight - place;
    const digits = index >= 0 && index < count ? value.readInt16BE(headerBytes + index * 2) : 0;
    return String(digits).padStart(group, '0');
  };
  let whole = '';
  for (let place = weight; place >= 0; place -= 1) whole += at(place);
  let fraction = '';
  for (let place = -1; fraction.length < scale; place -= 1) fraction += at(place);
  const text = `${whole.replace(/^0+(?=\d)/, '') || '0'}${scale > 0 ? `.${fraction.slice(0, scale)}` : ''}`;
  return sign === signs.negative ? `-${text}` : text;
}
