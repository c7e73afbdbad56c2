"""Links of names in code style to the reference, and of files outside docs/ to the repository."""

import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util.nodes import make_refnode

from docs._extensions import public

_NAME = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?=\(|$)")


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers what makes links with Sphinx."""
    app.add_config_value("repository", "", "env", types=(str,))
    app.add_config_value("pages_of_files", {}, "env", types=(dict,))
    app.add_transform(NameLinks)
    app.add_transform(FileLinks)
    app.connect("missing-reference", resolve_name, priority=400)
    return {"parallel_read_safe": True}


class NameLinks(SphinxTransform):
    """Makes a possible link of each name in code style, `process.marginal`, and of each title role.

    Docstrings have names in single backticks, which reStructuredText reads as titles.
    """

    default_priority = 400

    def apply(self) -> None:
        """Wraps every literal that may be a public name into a pending reference."""
        of_api = self.env.docname.startswith("api/")
        for node in list(self.document.findall(nodes.title_reference)):
            node.replace_self(nodes.literal(node.astext(), node.astext()))
        for node in list(self.document.findall(nodes.literal)):
            text = node.astext()
            name = _NAME.match(text)
            dotted = name is not None and "." in name[0]
            inside = isinstance(node.parent, nodes.reference | addnodes.pending_xref)
            if name is None or inside or not (dotted or of_api):
                continue
            reference = addnodes.pending_xref(
                "", refdomain="", reftype="name", reftarget=name[0], refdoc=self.env.docname
            )
            reference["of"] = _entry_of(node) or self.env.docname.removeprefix("api/")
            node.replace_self(reference)
            reference += node


class FileLinks(SphinxTransform):
    """Makes links to files outside of docs/ links to the page or the repository that shows them.

    Where nothing shows a file, its path stays as code. The start page is the README, whose links
    begin at the root of the repository.
    """

    default_priority = 5  # ahead of Sphinx, which would copy the files

    def apply(self) -> None:
        """Replaces every link to a file outside of docs/."""
        docs = Path(self.env.srcdir)
        page = Path(self.env.doc2path(self.env.docname))
        base = docs.parent if self.env.docname == "index" else page.parent
        for node in list(self.document.findall(_may_be_a_file)):
            # MyST leaves the ending out where it takes a file for a page.
            target = node["reftarget"].partition("#")[0]
            for file in (target, f"{target}.md"):
                path = (base / file).resolve()
                if path.is_file() and path.is_relative_to(docs.parent):
                    if not path.is_relative_to(docs):
                        node.replace_self(self._link(str(path.relative_to(docs.parent)), node))
                    break

    def _link(self, file: str, node: nodes.Element) -> nodes.Element:
        texts = [child.deepcopy() for child in node.children]
        if file in self.config.pages_of_files:
            page, _, anchor = self.config.pages_of_files[file].partition("#")
            anchor = anchor or node.get("reftargetid") or node["reftarget"].partition("#")[2]
            link = addnodes.pending_xref(
                "",
                *texts,
                refdomain="doc",
                reftype="myst",
                reftarget=page,
                reftargetid=anchor or None,
                refdoc=self.env.docname,
                refexplicit=True,
            )
        elif self.config.repository:
            link = nodes.reference("", "", *texts, refuri=f"{self.config.repository}/{file}")
        else:
            link = nodes.literal(file, file)
        return link


def _may_be_a_file(node: nodes.Node) -> bool:
    """Whether a node is a link for which Sphinx would copy a file, or look for a page."""
    if isinstance(node, addnodes.pending_xref):
        return node.get("reftype") == "myst" and node.get("refdomain") in (None, "doc")
    return isinstance(node, addnodes.download_reference)


def resolve_name(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.Element
) -> nodes.Element | None:
    """The link of a name in code style; plain code where it is no public name."""
    if node.get("reftype") != "name":
        return None
    entries = env.domains.python_domain.objects
    name = node["reftarget"].removeprefix("mm.").removeprefix(f"{public.ROOT}.")
    scopes = node["of"].split(".")
    places = [".".join(scopes[:count]) for count in range(len(scopes), 0, -1)] + [public.ROOT]
    for place in places:
        full = f"{place}.{name}"
        full = public.homes().get(full, full)
        if full in entries and full != node["of"]:
            entry = entries[full]
            return make_refnode(
                app.builder, node["refdoc"], entry.docname, entry.node_id, content, full
            )
    return content


def _entry_of(node: nodes.Node) -> str:
    """The name whose entry a node stands in."""
    while node.parent is not None:
        node = node.parent
        if isinstance(node, addnodes.desc):
            signature = node.next_node(addnodes.desc_signature)
            if signature is not None and signature.get("fullname"):
                return f"{signature.get('module')}.{signature['fullname']}"
    return ""
