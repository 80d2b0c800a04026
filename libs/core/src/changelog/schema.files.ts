/** Reads the schema of the change log from the project's .proto file, the same one that consumers and the gRPC server use. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { projectRoot } from '../config/project-root.files.ts';
import { ChangeCodec } from './codec.ts';

export const changeProtoFile = join(projectRoot, 'libs/core/proto/pgquorum/v1/change.proto');

let loaded: ChangeCodec | undefined;

/** The codec of this process; parsing takes a few milliseconds and happens once. */
export function changeCodec(): ChangeCodec {
  loaded ??= new ChangeCodec(protobuf.parse(readFileSync(changeProtoFile, 'utf8')).root);
  return loaded;
}
