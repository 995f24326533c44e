"""Hunyuan3D: models in three dimensions, by Tencent Cloud and by gateways with the same fields."""
