/** Reads the schema of the change log from the project's .proto file, the same one that consumers and the gRPC server use. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import protobuf, { type Root, type Type } from 'protobufjs';
import { projectRoot } from '../config/project-root.files.ts';
import { ChangeCodec } from './codec.ts';

export const changeProtoFile = join(projectRoot, 'libs/core/proto/pgquorum/v1/change.proto');

let codec: ChangeCodec | undefined;
let schema: Root | undefined;

const changeSchema = (): Root => (schema ??= protobuf.parse(readFileSync(changeProtoFile, 'utf8')).root);

/** The codec of this process; parsing takes a few milliseconds and happens once. */
export const changeCodec = (): ChangeCodec => (codec ??= new ChangeCodec(changeSchema()));

/** `pgquorum.v1.Change` as consumers know it. */
export const changeType = (): Type => changeSchema().lookupType('pgquorum.v1.Change');
