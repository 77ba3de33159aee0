"""The pages of the shop."""
from django.http import JsonResponse, StreamingHttpResponse
from django.urls import path

from .models import Order


def orders(request):
    if request.method == "POST":
        Order.objects.create(item=request.POST["item"])
    return JsonResponse({"items": list(Order.objects.values_list("item", flat=True))})


def broken(request):
    Order.objects.create(item="undone")
    raise RuntimeError("after a write")


def streamed(request):
    return StreamingHttpResponse(order.item for order in Order.objects.all().iterator())


urlpatterns = [
    path("orders", orders),
    path("broken", broken),
    path("streamed", streamed),
]
