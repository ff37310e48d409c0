"""`/docs`: Swagger UI from vendored files, so that it works offline."""

from __future__ import annotations

from litestar import MediaType, Response, get

# The page holds no script of its own, which the content security policy would refuse.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>RosFit API</title>
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/vendor/swagger-ui/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/static/vendor/swagger-ui/swagger-ui-bundle.js"></script>
<script src="/static/docs.js"></script>
</body>
</html>
"""


@get("/docs", opt={"right": None, "page": True}, include_in_schema=False, media_type=MediaType.HTML)
async def api_docs() -> Response[str]:
    return Response(_PAGE, media_type=MediaType.HTML)
