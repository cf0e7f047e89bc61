"""One page that shows what is open in a browser: as a file that needs nothing beside it, or served."""

from viewer.page.build import write_html
from viewer.page.serve import serve

__all__ = ["serve", "write_html"]
