"""Does what its argument lists, [[module, verb, url, argument…], …], and prints the answers as a list."""

import json
import sys

import orm
import store

modules = {"orm": orm, "store": store}


def driver(url: str) -> str:
    return "postgresql+psycopg://" + url.split("://", 1)[1]


steps = json.loads(sys.argv[1])
print(json.dumps([getattr(modules[module], verb)(driver(url), *rest) for module, verb, url, *rest in steps]))
