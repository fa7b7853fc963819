"""The import graph of a package, read from its source: every import statement counts, wherever it stands."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One import of one name.

    Attributes:
        importer: the module that holds the statement.
        imported: the module that the name comes from; for third-party packages, as written.
        line: of the statement.
        late: whether it stands in a function.
        typing: whether it stands under `if TYPE_CHECKING`.
        through: the module that the statement names, where that only re-exports the name.
    """

    importer: str
    imported: str
    line: int
    late: bool = False
    typing: bool = False
    through: str | None = None

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


@dataclass
class Module:
    """One source file: its tree, and the names that other modules find in it."""

    name: str
    package: str  # that relative imports start from
    tree: ast.Module
    defined: set[str] = field(default_factory=set)
    reexported: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> (module, name there)
    starred: list[str] = field(default_factory=list)  # modules of `from m import *`

    def __post_init__(self) -> None:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                source = self.source_of(node)
                for alias in node.names:
                    if alias.name == "*":
                        self.starred.append(source)
                    else:
                        self.reexported.setdefault(alias.asname or alias.name, (source, alias.name))
        for node in self.tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                self.defined.add(node.name)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                self.defined |= {
                    name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
                }

    def source_of(self, node: ast.ImportFrom) -> str:
        """The absolute name of the module in `from module import ...`."""
        if not node.level:
            return node.module or ""
        base = self.package.split(".")
        base = base[: len(base) - node.level + 1]
        return ".".join([*base, *([node.module] if node.module else [])])


class ImportGraph:
    """Which module of a package imports which, and what they import from elsewhere.

    `from package import name` is an import of the module that defines the name, if the package only re-exports it.

    Args:
        root: the folder of the package.
    """

    def __init__(self, root: Path):
        self.package = root.name
        self.modules: dict[str, Module] = {}
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root.parent).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            parent = name if is_package else name.rpartition(".")[0]
            self.modules[name] = Module(name, parent, ast.parse(path.read_text(encoding="utf-8")))

    @cached_property
    def imports(self) -> list[Import]:
        """Every import of every module, third-party ones included."""
        return [found for module in self.modules.values() for found in self._statements(module, module.tree)]

    @cached_property
    def internal(self) -> list[Import]:
        """Imports of other modules of the package."""
        return [each for each in self.imports if each.imported in self.modules and each.imported != each.importer]

    @cached_property
    def external(self) -> list[Import]:
        """Imports from outside the package."""
        return [each for each in self.imports if each.imported.partition(".")[0] != self.package]

    def cycles(self) -> list[list[str]]:
        """Groups of modules that import one another, each sorted (Tarjan's strongly connected components)."""
        edges: dict[str, set[str]] = {name: set() for name in self.modules}
        for each in self.internal:
            edges[each.importer].add(each.imported)
        index: dict[str, int] = {}
        low: dict[str, int] = {}
        stack: list[str] = []
        found: list[list[str]] = []

        def visit(name: str) -> None:
            index[name] = low[name] = len(index)
            stack.append(name)
            for other in sorted(edges[name]):
                if other not in index:
                    visit(other)
                    low[name] = min(low[name], low[other])
                elif other in stack:
                    low[name] = min(low[name], index[other])
            if low[name] == index[name]:
                at = stack.index(name)
                component = sorted(stack[at:])
                del stack[at:]
                if len(component) > 1:
                    found.append(component)

        for name in edges:
            if name not in index:
                visit(name)
        return sorted(found)

    def _statements(self, module: Module, node: ast.AST, late: bool = False, typing: bool = False) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module.name, alias.name, node.lineno, late, typing)
        elif isinstance(node, ast.ImportFrom):
            source = module.source_of(node)
            for alias in node.names:
                home = self._home(source, alias.name)
                through = None if home in (source, f"{source}.{alias.name}") else source
                yield Import(module.name, home, node.lineno, late, typing, through)
        else:
            late = late or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            typing = typing or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
            for child in ast.iter_child_nodes(node):
                yield from self._statements(module, child, late, typing)

    def _home(self, source: str, name: str) -> str:
        """The module that `from source import name` gets the name from."""
        if f"{source}.{name}" in self.modules:
            return f"{source}.{name}"
        module = self.modules.get(source)
        if module is None or name in module.defined or name == "*":
            return source
        if name in module.reexported:
            return self._home(*module.reexported[name])
        for starred in module.starred:
            if starred in self.modules and name in self.modules[starred].defined:
                return starred
        return source
